//! The canonical form of a URL: two spellings of one address are one task. **Frozen**: a change here renames every
//! task. `dragonfly-core/vectors/task.json` holds examples for suites in other languages.
//!
//! 1. The URL is parsed and printed as the WHATWG URL Standard says: the scheme in lower case; for `http`, `https`,
//!    `ftp`, `ws` and `wss` the host in lower case and IDNA-encoded and the default port dropped; dot segments
//!    resolved; characters that a URL may not hold percent-encoded in UTF-8.
//! 2. User information and fragment are dropped. An empty path becomes `/`. A URL without `//` is refused.
//! 3. In host, path and query every `%xx` that stands for an unreserved character (RFC 3986, 2.3: letters, digits,
//!    `-._~`) becomes that character; the digits of every other become upper case; a `%` that starts no `%xx`
//!    becomes `%25`.
//! 4. The query is split at `&`. A parameter whose percent-decoded name (what precedes the first `=`) is filtered
//!    goes; the others stay, in order. No `?` remains without a query behind it.
//!
//! Hosts of other schemes keep their case: there they may be buckets or accounts, where case counts, and a spelling
//! that is not merged costs a second copy, where a wrong merge would give wrong bytes.
//!
//! # Which parameters are filtered
//! The names that a caller gave, or else the default list, version 1 ([`SIGNATURES`]): what object stores sign URLs
//! with. Names that begin with `X-Amz-`, `X-Goog-`, `X-Obs-`, `X-Oss-` or `X-Cos-` match in any case, all others
//! exactly. In the default list
//! - a name that means nothing else goes always (`X-Amz-Signature`, `q-signature`);
//! - a name that could mean something else goes only in the company that makes it a signature: `Expires` and
//!   `Signature` beside an access key (`AWSAccessKeyId`, `GoogleAccessId`, ...), the short names of Azure (`sv`,
//!   `se`, `sp`, ...) where both `sig` and `sv` are there;
//! - containerd's `ns` goes only where path is that of a registry and ends in a digest (`/v2/.../sha256:...`),
//!   because elsewhere it selects content.

use url::Url;

use super::InvalidSpec;

/// Stands for the default list in [`TaskSpec::filtered`](super::TaskSpec::filtered); no caller may give this name.
pub const FILTER_DEFAULT: &str = "@default/1";

/// Names that match in any case begin with one of these: the stores treat them as they treat header names.
const FAMILIES: [&str; 5] = ["x-amz-", "x-goog-", "x-obs-", "x-oss-", "x-cos-"];

/// Parameters that sign a URL for one kind of store.
struct Signature {
    /// The group counts only if every one of these is there.
    anchors: &'static [&'static str],
    names: &'static [&'static str],
}

/// The default list, version 1.
const SIGNATURES: [Signature; 10] = [
    // AWS S3, signature version 4.
    Signature {
        anchors: &[],
        names: &[
            "X-Amz-Algorithm",
            "X-Amz-Content-Sha256",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-Security-Token",
            "X-Amz-Signature",
            "X-Amz-SignedHeaders",
            "X-Amz-User-Agent",
        ],
    },
    // AWS S3, signature version 2.
    Signature { anchors: &["AWSAccessKeyId", "Signature"], names: &["AWSAccessKeyId", "Expires", "Signature"] },
    // AWS CloudFront.
    Signature { anchors: &["Key-Pair-Id", "Signature"], names: &["Expires", "Key-Pair-Id", "Policy", "Signature"] },
    // Google Cloud Storage, version 4.
    Signature {
        anchors: &[],
        names: &[
            "X-Goog-Algorithm",
            "X-Goog-Credential",
            "X-Goog-Date",
            "X-Goog-Expires",
            "X-Goog-Signature",
            "X-Goog-SignedHeaders",
        ],
    },
    // Google Cloud Storage, version 2.
    Signature { anchors: &["GoogleAccessId", "Signature"], names: &["Expires", "GoogleAccessId", "Signature"] },
    // Aliyun OSS, version 1.
    Signature {
        anchors: &["OSSAccessKeyId", "Signature"],
        names: &["Expires", "OSSAccessKeyId", "SecurityToken", "Signature", "security-token"],
    },
    // Aliyun OSS, version 4.
    Signature {
        anchors: &[],
        names: &[
            "x-oss-additional-headers",
            "x-oss-credential",
            "x-oss-date",
            "x-oss-expires",
            "x-oss-security-token",
            "x-oss-signature",
            "x-oss-signature-version",
        ],
    },
    // Huawei OBS.
    Signature {
        anchors: &["AccessKeyId", "Signature"],
        names: &["AccessKeyId", "Expires", "Signature", "X-Obs-Date", "X-Obs-Security-Token"],
    },
    // Tencent COS.
    Signature {
        anchors: &[],
        names: &[
            "q-ak",
            "q-header-list",
            "q-key-time",
            "q-sign-algorithm",
            "q-sign-time",
            "q-signature",
            "q-url-param-list",
            "x-cos-security-token",
        ],
    },
    // Azure shared access signatures.
    Signature {
        anchors: &["sig", "sv"],
        names: &[
            "saoid", "scid", "sdd", "se", "si", "sig", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp",
            "spr", "sr", "srt", "ss", "st", "suoid", "sv",
        ],
    },
];

/// A filtered parameter of a caller's list is taken for a credential if its name holds one of these, in any case.
const SECRET_WORDS: [&str; 9] = ["auth", "cred", "jwt", "key", "pass", "policy", "secret", "sig", "token"];

/// A canonical URL and what was left out of its query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Canonical {
    pub(super) url: String,
    /// Whether any parameter was filtered away.
    pub(super) filtered: bool,
    /// Whether some parameter lets its bearer in: a known signature, filtered or not, or a filtered one whose name
    /// says so.
    pub(super) presigned: bool,
}

/// Prints `url` in its canonical form; `filter` as in [`TaskSpec::filtered`](super::TaskSpec::filtered).
pub(super) fn canonical(url: &Url, filter: &[String]) -> Result<Canonical, InvalidSpec> {
    if url.cannot_be_a_base() || !url.has_authority() {
        return Err(InvalidSpec::Url("it has no `//`"));
    }
    let mut text = format!("{}://", url.scheme());
    normalise(url.host_str().unwrap_or(""), &mut text);
    if let Some(port) = url.port() {
        text.push_str(&format!(":{port}"));
    }
    if url.path().is_empty() {
        text.push('/');
    }
    normalise(url.path(), &mut text);

    let parameters: Vec<(String, &str)> = match url.query() {
        None | Some("") => Vec::new(),
        Some(query) => query.split('&').map(|spelt| (name_of(spelt), spelt)).collect(),
    };
    let (mut filtered, mut presigned, mut query) = (false, false, Vec::new());
    let is_default = filter.iter().any(|name| name == FILTER_DEFAULT);
    let signatures: Vec<&Signature> = SIGNATURES.iter().filter(|s| s.is_among(&parameters)).collect();
    for (name, spelt) in &parameters {
        let signature = signatures.iter().any(|s| s.names.iter().any(|known| same_name(known, name)));
        let listed = filter.iter().any(|known| same_name(known, name));
        let removed = if is_default { signature || (name == "ns" && is_digest_path(url.path())) } else { listed };
        presigned |= signature || (listed && is_secret(name));
        filtered |= removed;
        if !removed {
            let mut normal = String::new();
            normalise(spelt, &mut normal);
            query.push(normal);
        }
    }
    let query = query.join("&");
    if !query.is_empty() {
        text.push('?');
        text.push_str(&query);
    }
    Ok(Canonical { url: text, filtered, presigned })
}

/// What may be shown of a URL in listings and logs: scheme, host, port and path, and `?…` in place of a query.
/// Never user information, query or fragment, any of which may hold a secret.
pub fn label(url: &Url) -> String {
    let mut shown = url.clone();
    // Both setters fail only on URLs that cannot hold user information anyway.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let query = shown.query().is_some_and(|query| !query.is_empty());
    shown.set_query(None);
    format!("{shown}{}", if query { "?…" } else { "" })
}

/// The spelling of a filter name in the preimage: families in lower case, all others as they are.
pub(super) fn filter_name(name: &str) -> String {
    if is_family(name) { name.to_ascii_lowercase() } else { name.to_owned() }
}

impl Signature {
    fn is_among(&self, parameters: &[(String, &str)]) -> bool {
        self.anchors.iter().all(|anchor| parameters.iter().any(|(name, _)| same_name(anchor, name)))
    }
}

fn is_family(name: &str) -> bool {
    FAMILIES.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

fn same_name(known: &str, name: &str) -> bool {
    if is_family(known) { known.eq_ignore_ascii_case(name) } else { known == name }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Whether `path` is a registry's and ends in a digest, so that no parameter can change what it names.
fn is_digest_path(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or("");
    let digest = last.split_once(':').is_some_and(|(algorithm, hex)| {
        let digits = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit())
    });
    path.starts_with("/v2/") && digest
}

/// The percent-decoded name of a parameter; bytes that are no UTF-8 match no name of a list.
fn name_of(parameter: &str) -> String {
    let name = parameter.split('=').next().unwrap_or("").as_bytes();
    let mut decoded = Vec::with_capacity(name.len());
    let mut at = 0;
    while at < name.len() {
        match escaped(&name[at..]) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(name[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Appends `text` with its percent-encoding in the one spelling of rule 3.
fn normalise(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match escaped(&rest.as_bytes()[before.len()..]) {
            Some(byte) => {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    out.push_str(&format!("%{byte:02X}"));
                }
                rest = &after[2..];
            }
            None => {
                out.push_str("%25");
                rest = after;
            }
        }
    }
    out.push_str(rest);
}

/// The byte that `text` spells at its start, if it starts with `%xx`.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    // Two hexadecimal digits fit a byte.
    Some((digit(high)? * 16 + digit(low)?) as u8)
}
