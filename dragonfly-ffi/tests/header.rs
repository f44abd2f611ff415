//! The header that is checked in is the one that the sources give.

use std::path::Path;

#[test]
fn the_header_is_the_one_that_the_sources_give() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_root_or_default(root);
    let bindings = cbindgen::Builder::new().with_crate(root).with_config(config).generate()?;
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = String::from_utf8(generated)?;
    let path = root.join("include/dragonfly.h");
    if std::env::var_os("DRAGONFLY_BLESS").is_some() {
        std::fs::write(&path, &generated)?;
    }
    let kept = std::fs::read_to_string(&path)?;
    assert!(kept == generated, "write it anew: DRAGONFLY_BLESS=1 cargo test -p dragonfly-ffi --test header");
    Ok(())
}
