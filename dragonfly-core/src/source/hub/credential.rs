//! Where a hub is and as whom it is asked: what the settings say, else what its own client would use.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::super::StorageSettings;
use super::Hub;

/// The largest file with a token, in bytes; tokens have tens.
const FILE_MAX: u64 = 64 * 1024;

/// The environment of this process, or of a test.
pub(super) struct Environment(Box<Variables>);

/// The value of a variable by its name.
type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    pub(super) fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    pub(super) fn new(of: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(of))
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name))
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(&*value.to_ascii_uppercase(), "1" | "ON" | "YES" | "TRUE"))
    }
}

/// How a hub is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Its path ends in a slash.
    pub(super) endpoint: Url,
    pub(super) token: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("endpoint", &super::redact(&self.endpoint)).finish_non_exhaustive()
    }
}

impl Settings {
    /// # Errors
    /// What is wrong with them; a token is not repeated.
    pub(super) fn new(hub: Hub, given: StorageSettings, environment: Option<&Environment>) -> Result<Self, String> {
        let (default, variable) = match hub {
            Hub::HuggingFace => ("https://huggingface.co", "HF_ENDPOINT"),
            Hub::ModelScope => ("https://modelscope.cn", "MODELSCOPE_ENDPOINT"),
        };
        let set = given.endpoint.clone().or_else(|| environment?.get(variable));
        let endpoint = set.as_deref().unwrap_or(default);
        let endpoint =
            endpoint_url(endpoint).ok_or("the endpoint of a hub is http[s]://HOST[:PORT][/PATH], and no more")?;
        // What is in the environment is for the hub that the environment names, or the usual one.
        let environment = environment.filter(|_| given.endpoint.is_none());
        let token = match (given.anonymous, given.token) {
            (true, _) => None,
            (false, Some(token)) => Some(token),
            (false, None) => environment.and_then(|environment| token(hub, environment)),
        };
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')) {
            return Err("its token has characters that no token has".to_owned());
        }
        Ok(Self { endpoint, token })
    }

    /// What tells the hub who asks.
    pub(super) fn headers(&self, hub: Hub) -> Vec<(String, String)> {
        let Some(token) = &self.token else { return Vec::new() };
        let mut headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
        if hub == Hub::ModelScope {
            // Its client sends both: some of what it asks reads the one, some the other.
            headers.push(("cookie".to_owned(), format!("m_session_id={token}")));
        }
        headers
    }
}

fn endpoint_url(text: &str) -> Option<Url> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&text).ok()?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    let more = has_user || url.query().is_some() || url.fragment().is_some();
    if more || !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}

/// The token that the hub's own client would use.
fn token(hub: Hub, environment: &Environment) -> Option<String> {
    if hub == Hub::ModelScope {
        // What its client keeps of a login is a pickled object of Python's, which is not read.
        return environment.get("MODELSCOPE_API_TOKEN");
    }
    if environment.is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    environment.first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).or_else(|| {
        let of_cache = |name, below: &str| environment.get(name).map(|dir| PathBuf::from(dir).join(below));
        let path = environment
            .get("HF_TOKEN_PATH")
            .map(PathBuf::from)
            .or_else(|| of_cache("HF_HOME", "token"))
            .or_else(|| of_cache("XDG_CACHE_HOME", "huggingface/token"))
            .or_else(|| of_cache("HOME", ".cache/huggingface/token"))?;
        let stated = std::fs::metadata(&path).ok().filter(|stated| stated.is_file() && stated.len() <= FILE_MAX);
        stated?;
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().to_owned()).filter(|token| !token.is_empty()),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the token of Hugging Face cannot be read");
                None
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(hub: Hub, given: StorageSettings, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let own: Vec<(String, String)> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let find = move |name: &str| own.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        Settings::new(hub, given, Some(&Environment::new(find)))
    }

    fn token_of(hub: Hub, given: StorageSettings, variables: &[(&str, &str)]) -> Option<String> {
        of(hub, given, variables).unwrap().token
    }

    #[test]
    fn a_token_is_found_where_the_hubs_client_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let cache = dir.path().join(".cache/huggingface");
        std::fs::create_dir_all(&cache).unwrap();
        let none = StorageSettings::default;
        let hf = |variables: &[(&str, &str)]| token_of(Hub::HuggingFace, none(), variables);
        assert_eq!(hf(&[("HOME", &home)]), None);
        std::fs::write(cache.join("token"), "of-file\n").unwrap();
        let of_file = Some("of-file".to_owned());
        assert_eq!(hf(&[("HOME", &home)]), of_file);
        assert_eq!(hf(&[("HF_HOME", cache.to_str().unwrap())]), of_file);
        assert_eq!(hf(&[("HF_TOKEN_PATH", cache.join("token").to_str().unwrap())]), of_file);
        assert_eq!(hf(&[("HOME", &home), ("HF_TOKEN", "given")]), Some("given".to_owned()));
        assert_eq!(hf(&[("HOME", &home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let ms = |variables: &[(&str, &str)]| token_of(Hub::ModelScope, none(), variables);
        assert_eq!(ms(&[("HOME", &home), ("HF_TOKEN", "given")]), None);
        assert_eq!(ms(&[("MODELSCOPE_API_TOKEN", "ms")]), Some("ms".to_owned()));
        // Who names another hub in the settings names its token there, too.
        let elsewhere = StorageSettings { endpoint: Some("https://hub.example".to_owned()), ..none() };
        assert_eq!(token_of(Hub::HuggingFace, elsewhere.clone(), &[("HF_TOKEN", "given")]), None);
        let with = StorageSettings { token: Some("own".to_owned()), ..elsewhere };
        assert_eq!(token_of(Hub::HuggingFace, with.clone(), &[]), Some("own".to_owned()));
        assert_eq!(token_of(Hub::HuggingFace, StorageSettings { anonymous: true, ..with }, &[]), None);
    }

    #[test]
    fn endpoints_may_have_a_path() {
        let none = StorageSettings::default;
        let hf = |text: &str| of(Hub::HuggingFace, none(), &[("HF_ENDPOINT", text)]).map(|s| s.endpoint.to_string());
        assert_eq!(of(Hub::HuggingFace, none(), &[]).unwrap().endpoint.as_str(), "https://huggingface.co/");
        assert_eq!(hf("http://h:1/a/b"), Ok("http://h:1/a/b/".to_owned()));
        assert_eq!(hf("hub.example"), Ok("https://hub.example/".to_owned()));
        for wrong in ["ftp://h", "https://user:secret@h", "https://h?x", "https://"] {
            assert!(hf(wrong).is_err_and(|why| !why.contains("secret")), "{wrong}");
        }
        let broken = StorageSettings { token: Some("a\r\nb".to_owned()), ..none() };
        assert!(of(Hub::HuggingFace, broken, &[]).is_err_and(|why| !why.contains('\n')));
    }
}
