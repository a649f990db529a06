//! Reading an authorize request, by LINE's rules.
//!
//! A wrong client or redirect URI is told to the person and never to the redirect URI; every other mistake goes back by
//! redirect, with LINE's upper-case codes. The redirect URI must be a registered callback URL, or that plus added query
//! parameters: not a prefix, not another host, no fragment.

use url::{Url, form_urlencoded};

use crate::simulator::world::{LoginChannel, Provider, World};

const SCOPES: [&str; 3] = ["profile", "openid", "email"];

/// A valid authorize request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The query as it came; the pages carry it along and it is read anew at each step.
    pub query: String,
    pub client_id: String,
    pub redirect_uri: String,
    pub state: String,
    pub scopes: Vec<String>,
    pub nonce: Option<String>,
    pub challenge: Option<String>,
    pub prompt: Option<Prompt>,
    pub bot_prompt: Option<BotPrompt>,
    pub max_age: bool,
    pub way: Way,
    /// Of the LIFF app that asks.
    pub liff_id: Option<String>,
}

/// Which way the person comes, and goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// LINE Login of a web app: back with a code.
    Web,
    /// `liff.login()` in a browser: back to the LIFF app's page with a code, which the SDK exchanges.
    Sdk,
    /// The LIFF app's URL opened in LINE: on to its page with tokens in the fragment.
    Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    Consent,
    None,
    Login,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BotPrompt {
    Normal,
    Aggressive,
}

/// Why an authorize request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// LINE's own page with status 400.
    Page(&'static str),
    /// Back to the redirect URI, with this URL.
    Redirect(String),
}

impl Ask {
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s == scope)
    }

    /// The redirect URI with these parameters and the state added.
    pub fn back(&self, params: &[(&str, &str)]) -> String {
        let mut all = params.to_vec();
        all.push(("state", &self.state));
        with_params(&self.redirect_uri, &all)
    }

    pub fn denied(&self) -> String {
        self.error("ACCESS_DENIED", "The resource owner denied the request.")
    }

    pub fn error(&self, code: &str, description: &str) -> String {
        self.back(&[("error", code), ("error_description", description)])
    }

    /// What comes back when auto login fails: a code that is worth nothing and a state of nobody's.
    pub fn auto_login_failure(&self) -> String {
        let (code, state) = (super::secret_text(), super::secret_text());
        with_params(&self.redirect_uri, &[("code", &code), ("state", &state)])
    }
}

fn with_params(uri: &str, params: &[(&str, &str)]) -> String {
    let added = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    let joint = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{joint}{added}")
}

/// Whether a redirect URI is the registered callback URL, or that plus added query parameters.
fn is_callback(registered: &str, asked: &str) -> bool {
    let Some(rest) = asked.strip_prefix(registered) else {
        return false;
    };
    let joint = if registered.contains('?') { '&' } else { '?' };
    // What cannot stand in a URL could not stand in a Location header either.
    let clean = !rest.contains(|c: char| c == '#' || c.is_whitespace() || c.is_control());
    rest.is_empty() || (rest.starts_with(joint) && clean)
}

/// Whether a URL is a LIFF app's endpoint URL or below it; query and fragment do not count.
fn is_below(endpoint: &str, asked: &str) -> bool {
    let (Ok(endpoint), Ok(asked)) = (Url::parse(endpoint), Url::parse(asked)) else { return false };
    let base = endpoint.path().trim_end_matches('/');
    let rest = asked.path().strip_prefix(base);
    endpoint.origin() == asked.origin() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

struct Params(Vec<(String, String)>);

impl Params {
    /// The parameter, if it is given exactly once and not empty.
    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(n, _)| n == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if !value.is_empty() => Some(value),
            _ => None,
        }
    }

    fn repeats(&self) -> bool {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Reads the query of an authorize request.
pub(super) fn read<'w>(world: &'w World, query: &str) -> Result<(Ask, &'w Provider, &'w LoginChannel), Refusal> {
    let params = Params(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    let (provider, channel) =
        params.get("client_id").and_then(|id| world.login(id)).ok_or(Refusal::Page("Invalid client_id value."))?;
    let app = params.get("app_id").map(|id| channel.liff.as_ref().filter(|app| app.id == id));
    let is_known = |uri: &&str| match app {
        None => channel.callback_urls.iter().any(|known| is_callback(known, uri)),
        Some(app) => app.is_some_and(|app| is_below(&app.endpoint_url, uri)),
    };
    let redirect_uri = params
        .get("redirect_uri")
        .filter(is_known)
        .ok_or(Refusal::Page("Invalid redirect_uri value. Check if it is registered in a LINE developers site."))?;
    let ask = check(&params, query, redirect_uri).map_err(|(code, description)| {
        let mut answer = vec![("error", code), ("error_description", description)];
        answer.extend(params.get("state").map(|state| ("state", state)));
        Refusal::Redirect(with_params(redirect_uri, &answer))
    })?;
    Ok((ask, provider, channel))
}

type Mistake = (&'static str, &'static str);

fn invalid(description: &'static str) -> Mistake {
    ("INVALID_REQUEST", description)
}

fn check(params: &Params, query: &str, redirect_uri: &str) -> Result<Ask, Mistake> {
    if params.repeats() {
        return Err(invalid("A parameter is repeated."));
    }
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => return Err(("UNSUPPORTED_RESPONSE_TYPE", "response_type must be code.")),
        None => return Err(invalid("response_type is required.")),
    }
    // "cannot be a URL-encoded string"
    let state = params
        .get("state")
        .filter(|state| !state.contains('%'))
        .ok_or(invalid("state is required and must not be URL-encoded."))?;
    if !matches!(params.get("response_mode"), None | Some("query")) {
        return Err(invalid("This response_mode is not played by the simulator."));
    }
    for flag in ["switch_amr", "disable_auto_login", "disable_ios_auto_login"] {
        if !matches!(params.get(flag), None | Some("true" | "false")) {
            return Err(invalid("A flag must be true or false."));
        }
    }
    let max_age = params.get("max_age");
    if max_age.is_some_and(|seconds| seconds.parse::<u32>().is_err()) {
        return Err(invalid("max_age must be a number of seconds."));
    }
    Ok(Ask {
        query: query.to_owned(),
        client_id: params.get("client_id").unwrap_or_default().to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        state: state.to_owned(),
        scopes: scopes(params.get("scope"))?,
        nonce: params.get("nonce").map(str::to_owned),
        challenge: challenge(params)?,
        prompt: prompt(params.get("prompt"))?,
        bot_prompt: bot_prompt(params.get("bot_prompt"))?,
        max_age: max_age.is_some(),
        way: way(params),
        liff_id: params.get("app_id").map(str::to_owned),
    })
}

fn scopes(scope: Option<&str>) -> Result<Vec<String>, Mistake> {
    let text = scope.ok_or(invalid("scope is required."))?;
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
        if !SCOPES.contains(&scope) {
            return Err(("INVALID_SCOPE", "The scope is not available to this channel."));
        }
        if !scopes.iter().any(|s| s == scope) {
            scopes.push(scope.to_owned());
        }
    }
    let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
    if (!has("profile") && !has("openid")) || (has("email") && !has("openid")) {
        return Err(("INVALID_SCOPE", "The scope needs profile or openid, and openid for email."));
    }
    Ok(scopes)
}

/// A LIFF app's request names it; ours for its URL in LINE is marked, since LINE has no such page.
fn way(params: &Params) -> Way {
    match (params.get("app_id"), params.get("type")) {
        (None, _) => Way::Web,
        (Some(_), Some("C")) => Way::Line,
        (Some(_), _) => Way::Sdk,
    }
}

/// S256 only: `plain` is not supported, and it is what an absent method would mean.
fn challenge(params: &Params) -> Result<Option<String>, Mistake> {
    let is_hash =
        |text: &str| text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    match (params.get("code_challenge"), params.get("code_challenge_method")) {
        (None, None) => Ok(None),
        (Some(challenge), Some("S256")) if is_hash(challenge) => Ok(Some(challenge.to_owned())),
        _ => Err(invalid("code_challenge needs the method S256.")),
    }
}

fn prompt(prompt: Option<&str>) -> Result<Option<Prompt>, Mistake> {
    match prompt {
        None => Ok(None),
        Some("consent") => Ok(Some(Prompt::Consent)),
        Some("none") => Ok(Some(Prompt::None)),
        Some("login") => Ok(Some(Prompt::Login)),
        Some(_) => Err(invalid("prompt must be consent, none or login.")),
    }
}

fn bot_prompt(prompt: Option<&str>) -> Result<Option<BotPrompt>, Mistake> {
    match prompt {
        None => Ok(None),
        Some("normal") => Ok(Some(BotPrompt::Normal)),
        Some("aggressive") => Ok(Some(BotPrompt::Aggressive)),
        Some(_) => Err(invalid("bot_prompt must be normal or aggressive.")),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_below, is_callback};

    #[test]
    fn liff_rule() {
        let table = [
            ("https://example.com/liff", "https://example.com/liff", true),
            ("https://example.com/liff", "https://example.com/liff/a?b=c#d", true),
            ("https://example.com/liff/", "https://example.com/liff/a", true),
            ("https://example.com", "https://example.com/a", true),
            ("https://example.com/liff", "https://example.com/liffy", false),
            ("https://example.com/liff", "https://example.com/", false),
            ("https://example.com/liff", "https://example.com.evil.test/liff", false),
            ("https://example.com/liff", "http://example.com/liff", false),
            ("https://example.com/liff", "/liff", false),
        ];
        for (endpoint, asked, expected) in table {
            assert_eq!(is_below(endpoint, asked), expected, "{endpoint} {asked}");
        }
    }

    #[test]
    fn redirect_rule() {
        let table = [
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "https://example.com?key=value", true),
            ("https://example.com/cb", "https://example.com/cb?a=1&b=2", true),
            ("https://example.com/cb?a=1", "https://example.com/cb?a=1&b=2", true),
            ("https://example.com/cb?a=1", "https://example.com/cb?a=12", false),
            ("https://example.com/cb", "https://example.com/cb/", false),
            ("https://example.com/cb", "https://example.com/cb2", false),
            ("https://example.com", "https://example.com.evil.test", false),
            ("https://example.com/cb", "https://example.com/cb#x", false),
            ("https://example.com/cb", "https://example.com/cb?a#x", false),
            ("https://example.com/cb", "https://example.com/cb?a\r\nb", false),
            ("https://example.com/cb", "http://example.com/cb", false),
        ];
        for (registered, asked, expected) in table {
            assert_eq!(is_callback(registered, asked), expected, "{registered} {asked}");
        }
    }
}
