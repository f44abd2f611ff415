//! Gives the shared library the name that programs are linked to.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    // The name changes with the major version of the ABI, which is the first number of DRAGONFLY_ABI_VERSION.
    match os.as_str() {
        "linux" | "freebsd" | "android" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdragonfly.so.1");
        }
        "macos" => println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libdragonfly.1.dylib"),
        _ => {}
    }
}
