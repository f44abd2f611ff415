//! Settings of object stores and file servers, from flags.

use dragonfly_core::source::StorageConfig;

use crate::error::Failure;

/// Puts the settings together, each as [`StorageConfig::set`] reads it.
pub(crate) fn config(settings: &[String]) -> Result<StorageConfig, Failure> {
    let mut config = StorageConfig::default();
    for setting in settings {
        config.set(setting).map_err(|e| Failure::usage(format!("--storage: {e}")))?;
    }
    Ok(config)
}
