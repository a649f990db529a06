//! The documentation says what is there, and all of it.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode, header};
use musubi::{
    api::openapi,
    error::Kind,
    member::guard::{Scope, Who},
    routes,
};
use serde_json::{Value, json};

use super::door::concrete;
use crate::support::both_engines;

/// Method, path, scope and JSON of each operation.
fn operations() -> Vec<(Method, String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in openapi::document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            let scope = operation["security"][0]["key"][0].as_str().unwrap().to_owned();
            found.push((method, path.clone(), scope, operation.clone()));
        }
    }
    found
}

#[test]
fn routes_and_document_are_one() {
    let routes: BTreeSet<String> = routes::all()
        .iter()
        .filter(|route| route.path.starts_with("/api/v1/"))
        .map(|route| {
            let Who::Key(scope) = route.who else { panic!("{} needs no key", route.path) };
            format!("{} {} {scope}", route.method, route.path)
        })
        .collect();
    let told: BTreeSet<String> =
        operations().iter().map(|(method, path, scope, _)| format!("{method} {path} {scope}")).collect();
    assert_eq!(routes, told);
    assert!(routes::all().iter().all(|route| !matches!(route.who, Who::Key(_)) || route.path.starts_with("/api/v1/")));
}

#[test]
fn every_operation_is_told_whole() {
    let document = openapi::document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    let tags: Vec<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (method, path, _, operation) in operations() {
        let what = format!("{method} {path}");
        assert!(tags.contains(&operation["tags"][0].as_str().unwrap()), "{what}: its tag has no description");
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 5), "{what}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}");
        let mut needed = vec!["400", "401", "403", "429", "431", "500", "503"];
        if method == Method::POST {
            needed.extend(["408", "409", "413"]);
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key"), "{what}");
        }
        if path.contains('{') {
            needed.push("404");
        }
        if !operation["requestBody"].is_null() {
            needed.extend(["413", "415", "422"]);
        }
        for status in needed {
            let content = &operation["responses"][status]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{what} {status}");
        }
        let good = operation["responses"].as_object().unwrap().keys().filter(|status| status.starts_with('2'));
        assert!(good.count() >= 1, "{what}");
    }
    // Whatever is referred to is there.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

/// Of two schemas of one name the document would keep one, silently.
#[test]
fn schemas_have_names_of_their_own() {
    let (mut folders, mut names) = (vec![std::path::PathBuf::from("src/api")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for schema in text.split("ToSchema)]").skip(1) {
                let (head, item) = schema.split_once("\npub ").unwrap();
                let named = head.split_once("schema(as = ").map(|(_, rest)| rest.split([')', ',']).next().unwrap());
                let own = item.split([' ', '<']).nth(1);
                names.push(named.or(own).unwrap().to_owned());
            }
        }
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert!(all > 10 && names.len() == all, "{names:?}");
}

both_engines! {
    /// A field that nobody knows is told by its name, at each endpoint that takes a body.
    async fn unknown_fields_are_refused_everywhere(app) {
        let key = app.key(Scope::ALL).await;
        let before = app.dump(&["api_keys"]).await;
        for (method, path, _, operation) in operations() {
            if operation["requestBody"].is_null() {
                continue;
            }
            let answer = app.api(&key, method.clone(), &concrete(&path), json!({ "no_such_field": 1 })).await;
            assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid"), "{method} {path}");
            assert_eq!(answer.places(), ["no_such_field"], "{method} {path}");
            for (kind, body, status) in [
                ("text/plain", "{}", 415), ("application/json", "{", 400), ("application/json", "", 400),
                ("application/json", &format!("\"{}\"", "x".repeat(1024 * 1024)), 413),
            ] {
                let mut request = app.api_request(&key, method.clone(), &concrete(&path), &Value::Null);
                request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
                *request.body_mut() = axum::body::Body::from(body.to_owned());
                let answer = app.answer(request).await;
                assert_eq!(answer.status.as_u16(), status, "{method} {path} {}", answer.body);
                answer.problem();
            }
        }
        assert_eq!(app.dump(&["api_keys"]).await, before);
    }

    async fn the_documentation_is_a_page(app) {
        let page = app.visitor().get("/api/docs").await;
        assert_eq!(page.status, StatusCode::OK);
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.body.matches("<script").count(), 1, "the shell's own");
        for (method, path, scope, operation) in operations() {
            assert!(page.body.contains(&format!("<code>{method} {path}</code>")), "{method} {path}");
            assert!(page.body.contains(&format!("<span class=\"badge\">{scope}</span>")), "{scope}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(page.body.contains(&format!("id=\"{id}\"")) && page.body.contains(&format!("href=\"#{id}\"")));
        }
        for kind in Kind::ALL {
            assert!(page.body.contains(&format!("id=\"error-{}\"", kind.id())), "{}", kind.id());
        }
        let document = app.visitor().get("/api/openapi.json").await;
        assert_eq!((document.status, &document.headers[header::CONTENT_TYPE]), (StatusCode::OK, &"application/json".parse().unwrap()));
        assert_eq!(&document.json(), openapi::document());
    }
}
