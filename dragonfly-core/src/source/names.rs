//! Names of repositories and tags (OCI distribution specification, Pulling manifests).

/// The longest name of a repository; registries refuse longer ones, the host included.
const REPOSITORY_MAX: usize = 255;

/// The longest tag.
const TAG_MAX: usize = 128;

/// Whether it is the name of a repository.
pub(crate) fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        !part.is_empty() && part.bytes().all(plain) && part.as_bytes()[0].is_ascii_alphanumeric()
    };
    name.len() <= REPOSITORY_MAX && name.split('/').all(part)
}

/// Whether it is a tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TAG_MAX).contains(&tag.len()) && tag.bytes().all(plain) && !tag.starts_with(['.', '-'])
}
