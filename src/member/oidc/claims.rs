//! What the provider says of somebody, as what the company says of its member.
//!
//! A claim that does not fit is left out; only the one that names the member must. An attribute whose claim is missing or
//! does not fit is taken from the member: what the company says no more is so no more.

use serde_json::Value;

use super::refusal::Cause;
use crate::{
    config,
    member::company::{self, Mistake, Said, Wanted},
    oidc::Claims,
};

/// The member that the claims name, with what is said of them.
pub fn read(settings: &config::Oidc, claims: &Claims) -> Result<Wanted, Cause> {
    let id = match claims.get(&settings.external_id) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if id.is_i64() => id.to_string(),
        _ => return Err(Cause::NoId),
    };
    let said = said(settings, claims);
    let mended = match company::check(&id, said.clone()) {
        Ok(wanted) => return Ok(wanted),
        Err(mistakes) => mistakes.iter().fold(said, without),
    };
    company::check(&id, mended).map_err(|_| Cause::NoId)
}

fn said(settings: &config::Oidc, claims: &Claims) -> Said {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(|text| Some(text.to_owned()));
    let attributes = settings.attributes.iter();
    Said {
        // An address that the provider did not verify is anybody's.
        email: text("email").filter(|_| is_true(claims.get("email_verified"))),
        name: text("name"),
        language: text("locale").map(|tag| tag.map(|tag| tag.replace('_', "-"))),
        time_zone: text("zoneinfo"),
        quiet_hours: None,
        attributes: attributes
            .map(|(name, claim)| (name.clone(), claims.get(claim).cloned().unwrap_or(Value::Null)))
            .collect(),
        tags: None,
    }
}

/// Some providers write their flags as texts.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

fn without(mut said: Said, mistake: &Mistake) -> Said {
    tracing::warn!(field = mistake.field, mistake = mistake.text, "a claim of the company's provider is left out");
    match mistake.field.as_str() {
        "email" => said.email = None,
        "name" => said.name = None,
        "language" => said.language = None,
        "time_zone" => said.time_zone = None,
        field => {
            let name = field.strip_prefix("attributes.").unwrap_or_default();
            said.attributes.entry(name.to_owned()).and_modify(|value| *value = Value::Null);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn settings(external_id: &str) -> config::Oidc {
        config::Oidc {
            issuer: "https://id.example.jp".into(),
            client_id: "musubi".into(),
            client_secret: None,
            label: "Example ID".into(),
            scopes: "openid".into(),
            external_id: external_id.into(),
            attributes: BTreeMap::from([("tier".into(), "membership".into()), ("points".into(), "points".into())]),
            create: true,
            passwords: true,
            external_browser: false,
        }
    }

    fn of(claims: &Value) -> Result<Wanted, Cause> {
        read(&settings("sub"), claims.as_object().unwrap())
    }

    #[test]
    fn claims_become_what_the_company_says() {
        let wanted = of(&json!({ "sub": "1001", "name": "太郎", "email": "Taro@Example.jp", "email_verified": true,
            "locale": "zh_TW", "zoneinfo": "Asia/Taipei", "membership": "gold", "points": 12, "iss": "x" }))
        .unwrap();
        assert_eq!((wanted.external_id.as_str(), wanted.name.as_deref()), ("1001", Some("太郎")));
        assert_eq!(wanted.email.unwrap().unwrap().key, "taro@example.jp");
        assert_eq!((wanted.language, wanted.time_zone), (Some(Some("zh-TW".into())), Some(Some("Asia/Taipei".into()))));
        let attributes: Vec<_> =
            wanted.attributes.into_iter().map(|(name, value)| (name, value.map(|value| value.json()))).collect();
        assert_eq!(attributes, [("points".into(), Some(json!(12))), ("tier".into(), Some(json!("gold")))]);
    }

    #[test]
    fn o10_an_unverified_address_is_not_said() {
        for verified in [json!(null), json!(false), json!("false"), json!(1), json!("yes"), json!([true])] {
            let claims = json!({ "sub": "1", "email": "a@example.jp", "email_verified": verified });
            assert_eq!(of(&claims).unwrap().email, None, "{verified}");
        }
        assert_eq!(of(&json!({ "sub": "1", "email": "a@example.jp" })).unwrap().email, None);
        assert!(of(&json!({ "sub": "1", "email": "a@example.jp", "email_verified": "true" })).unwrap().email.is_some());
    }

    #[test]
    fn claims_that_do_not_fit_are_left_out() {
        let wanted =
            of(&json!({ "sub": "1", "name": "a\nb", "email": "a", "email_verified": true, "locale": "nihongo",
            "zoneinfo": "../etc", "membership": ["gold"], "points": 1 }))
            .unwrap();
        assert_eq!((wanted.name, wanted.email, wanted.language, wanted.time_zone), (None, None, None, None));
        assert_eq!(wanted.attributes["tier"], None, "taken from the member");
        assert!(wanted.attributes["points"].is_some());
        let wanted = of(&json!({ "sub": "1", "name": 5 })).unwrap();
        assert_eq!((wanted.name, wanted.attributes.len()), (None, 2));
    }

    #[test]
    fn o11_without_an_id_there_is_nobody() {
        let long = "x".repeat(101);
        for id in
            [json!(null), json!(""), json!(1.5), json!(true), json!(["1"]), json!("a\u{0}"), json!(".."), json!(long)]
        {
            assert_eq!(of(&json!({ "sub": id })), Err(Cause::NoId), "{id}");
        }
        assert_eq!(of(&json!({ "sub": 1001 })).unwrap().external_id, "1001");
        let other = json!({ "sub": "x", "employee": "7" });
        assert_eq!(read(&settings("employee"), other.as_object().unwrap()).unwrap().external_id, "7");
        assert_eq!(read(&settings("number"), other.as_object().unwrap()), Err(Cause::NoId), "never another claim");
    }
}
