//! What a provider says of itself (`/.well-known/openid-configuration`).

use serde::Deserialize;
use url::{Host, Url};

/// How our client secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Basic,
    Post,
    Other,
}

/// Where the provider's endpoints are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub jwks_uri: Url,
    pub userinfo_endpoint: Option<Url>,
    pub end_session_endpoint: Option<Url>,
    pub method: Method,
    /// Whether an answer must say who it is of (RFC 9207).
    pub says_issuer: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    userinfo_endpoint: Option<Url>,
    end_session_endpoint: Option<Url>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Discovery {
    /// Reads what `issuer` published, or says what is wrong with it. Another issuer's word is none.
    pub fn read(bytes: &[u8], issuer: &str) -> Result<Self, String> {
        let found: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if found.issuer != issuer {
            return Err(format!(
                "it is of another issuer: {}",
                found.issuer.escape_debug().take(200).collect::<String>()
            ));
        }
        let is_plain = issuer.starts_with("http://");
        let needed = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
        let others = [&found.userinfo_endpoint, &found.end_session_endpoint];
        for url in needed.into_iter().chain(others.into_iter().flatten()) {
            if !is_safe(url, is_plain) {
                return Err("an endpoint is not https, or holds a user name or a fragment".into());
            }
        }
        Ok(Self {
            method: method(found.token_endpoint_auth_methods_supported.as_deref()),
            authorization_endpoint: found.authorization_endpoint,
            token_endpoint: found.token_endpoint,
            jwks_uri: found.jwks_uri,
            userinfo_endpoint: found.userinfo_endpoint,
            end_session_endpoint: found.end_session_endpoint,
            says_issuer: found.authorization_response_iss_parameter_supported,
        })
    }
}

/// Basic is what holds where nothing is said.
fn method(supported: Option<&[String]>) -> Method {
    let Some(supported) = supported else { return Method::Basic };
    let has = |name: &str| supported.iter().any(|one| one == name);
    match (has("client_secret_basic"), has("client_secret_post")) {
        (true, _) => Method::Basic,
        (false, true) => Method::Post,
        (false, false) => Method::Other,
    }
}

/// Https; by plain http only this machine, and only where the issuer is on it too.
fn is_safe(url: &Url, is_plain: bool) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_https = url.scheme() == "https" && url.has_host();
    (is_https || (is_plain && url.scheme() == "http" && is_loopback))
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://id.example.jp";

    fn read(changes: &[(&str, Value)]) -> Result<Discovery, String> {
        let mut document = json!({
            "issuer": ISSUER, "authorization_endpoint": "https://id.example.jp/auth?realm=1",
            "token_endpoint": "https://api.example.jp/token", "jwks_uri": "https://id.example.jp/jwks",
        });
        for (name, value) in changes {
            document[name] = value.clone();
        }
        Discovery::read(document.to_string().as_bytes(), ISSUER)
    }

    #[test]
    fn o02_another_issuers_word_is_none() {
        assert!(read(&[]).is_ok());
        for issuer in ["https://id.example.jp/", "https://ID.example.jp", "http://id.example.jp", "", "https://evil"] {
            assert!(read(&[("issuer", issuer.into())]).is_err(), "{issuer}");
        }
    }

    #[test]
    fn o02_endpoints_are_https() {
        for name in
            ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"]
        {
            assert!(read(&[(name, "https://other.example.jp/x".into())]).is_ok(), "{name}");
            for url in [
                "http://id.example.jp/x",
                "http://127.0.0.1/x",
                "javascript:alert(1)",
                "https://a:b@id.example.jp/x",
                "https://id.example.jp/x#y",
                "/x",
                "",
            ] {
                assert!(read(&[(name, url.into())]).is_err(), "{name} {url}");
            }
        }
    }

    #[test]
    fn the_secret_goes_the_way_that_is_announced() {
        let of = |methods: Value| read(&[("token_endpoint_auth_methods_supported", methods)]).unwrap().method;
        assert_eq!(of(Value::Null), Method::Basic);
        assert_eq!(of(json!(["client_secret_post", "client_secret_basic"])), Method::Basic);
        assert_eq!(of(json!(["private_key_jwt", "client_secret_post"])), Method::Post);
        assert_eq!(of(json!(["private_key_jwt"])), Method::Other);
    }
}
