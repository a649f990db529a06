//! The secrets that sign (columns `sealed_secret`, `sealed_former_secret`), and the signature.
//!
//! After a change both sign for a while, so that the receiver may change over when it suits.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::{
    app::App,
    db::Millis,
    error::{Error, Result},
    seal,
};

/// How long the former secret signs too.
pub const OVERLAP: Duration = Duration::from_secs(24 * 3600);
const PREFIX: &str = "whsec_";

/// A fresh one, as the receiver takes it.
pub(super) fn make() -> Result<SecretString> {
    Ok(format!("{PREFIX}{}", seal::new_key()?).into())
}

/// What the sealed value is bound to.
pub fn context(endpoint_id: &str) -> String {
    format!("hook:{endpoint_id}")
}

pub(super) fn seal(app: &App, endpoint_id: &str, secret: &SecretString) -> Result<String> {
    Ok(app.sealer.seal(&context(endpoint_id), secret.expose_secret().as_bytes())?)
}

pub(super) fn open(app: &App, endpoint_id: &str, sealed: &str) -> Result<SecretString> {
    let bytes = app.sealer.open(&context(endpoint_id), sealed)?;
    Ok(String::from_utf8(bytes).map_err(Error::internal)?.into())
}

/// The last four characters before the padding, by which people tell one from another.
pub(super) fn last4(secret: &SecretString) -> String {
    let text = secret.expose_secret().trim_end_matches('=');
    text.chars().skip(text.chars().count().saturating_sub(4)).collect()
}

/// The headers of a call that is made now, signed by each of the secrets.
pub(super) fn headers(secrets: &[SecretString], id: &str, now: Millis, body: &[u8]) -> Result<HeaderMap> {
    let mut signatures = Vec::new();
    for secret in secrets {
        let webhook = Webhook::new(secret.expose_secret()).map_err(Error::internal)?;
        signatures.push(webhook.sign(id, now.seconds(), body).map_err(Error::internal)?);
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        (HEADER_WEBHOOK_ID, id.to_owned()),
        (HEADER_WEBHOOK_TIMESTAMP, now.seconds().to_string()),
        (HEADER_WEBHOOK_SIGNATURE, signatures.join(" ")),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).map_err(Error::internal)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_secret_is_one_of_standard_webhooks() {
        let secret = make().unwrap();
        assert!(Webhook::new(secret.expose_secret()).is_ok());
        assert_ne!(make().unwrap().expose_secret(), secret.expose_secret());
        assert_eq!(last4(&"whsec_AAAABBBBCCC=".to_owned().into()), "BCCC");
    }

    /// The example of the specification.
    #[test]
    fn signs_as_the_specification_does() {
        let secret: SecretString = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned().into();
        let body = br#"{"test": 2432232314}"#;
        let headers = headers(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", Millis(1_614_265_330_000), body).unwrap();
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
    }
}
