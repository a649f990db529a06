//! A person at a screen: headless Chromium, driven through Debian's chromedriver.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails, and says why")]

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fantoccini::{
    Client, ClientBuilder,
    elements::{Element, ElementRef},
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use url::Url;

use super::gate::Gate;

/// What LINE's browser on Android says of itself.
const LINE: &str = "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/UD1A.231105.004; wv) AppleWebKit/537.36 (KHTML, like \
    Gecko) Version/4.0 Chrome/126.0.6478.122 Mobile Safari/537.36 Line/14.21.0/IAB LIFF";
const ANDROID: &str = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0.6478.122 Mobile Safari/537.36";
const PATIENCE: Duration = Duration::from_secs(10);
const START_PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Nothing but this machine: a link to LINE itself must not leave the test.
const THIS_MACHINE: &str =
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost";

/// The page's text as a person sees it, with runs of white space made one space.
const TEXT: &str = r"return (document.body?.innerText ?? '').replace(/\s+/g, ' ').trim()";

/// What can be pressed and says `arguments[0]`: rather just that than among other words, rather a button than a label.
const PRESSABLE: &str = r"
const clean = text => (text ?? '').replace(/\s+/g, ' ').trim();
const wanted = clean(arguments[0]);
const seen = e => e.checkVisibility({ visibilityProperty: true }) && !e.disabled;
const said = e => clean(e.innerText || e.value || e.getAttribute('aria-label'));
const all = ['a[href], button, summary, [role=button], input[type=submit], input[type=button]', 'label']
    .flatMap(selector => [...document.querySelectorAll(selector)]).filter(seen);
return all.find(e => said(e) === wanted) ?? all.find(e => said(e).includes(wanted)) ?? null;";

/// The first field with the name `arguments[0]` that a person can fill.
const FIELD: &str = r"
return [...document.getElementsByName(arguments[0])]
    .find(e => e.matches('input, textarea, select') && e.checkVisibility({ visibilityProperty: true }) && !e.disabled)
    ?? null;";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    Phone,
    /// A phone in LINE's own browser.
    Line,
    /// A phone with Android in Chrome.
    Android,
    Desktop,
}

/// What a browser calls itself, and how it treats cookies.
#[derive(Debug, Default)]
pub struct Nature {
    pub user_agent: Option<&'static str>,
    pub refuses_cookies: bool,
}

/// One browser with a profile of its own. Dropped, it ends with all its processes and files.
pub struct Browser {
    pub client: Client,
    _driver: Driver,
}

impl Browser {
    /// A browser whose person reads English.
    pub async fn start(screen: Screen) -> Self {
        Self::start_in(screen, "en").await
    }

    /// A browser whose person reads `language`, as in `ja`.
    pub async fn start_in(screen: Screen, language: &str) -> Self {
        Self::start_as(screen, language, &Nature::default()).await
    }

    /// A browser that is unlike the others.
    pub async fn start_as(screen: Screen, language: &str, nature: &Nature) -> Self {
        Self::reaching(screen, language, nature, &[THIS_MACHINE.to_owned()]).await
    }

    /// A browser to which every host of the world is behind this gate, and only its certificate is good.
    pub async fn start_behind(screen: Screen, gate: &Gate) -> Self {
        let hosts = format!("--host-resolver-rules=MAP * {}", gate.address);
        let reach = [hosts, format!("--ignore-certificate-errors-spki-list={}", gate.key)];
        Self::reaching(screen, "en", &Nature::default(), &reach).await
    }

    async fn reaching(screen: Screen, language: &str, nature: &Nature, reach: &[String]) -> Self {
        let (driver, port) = Driver::listening(language).await;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(screen, language, nature, reach, &driver.folder))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap_or_else(|error| panic!("no Chromium: {error}\n{}", driver.log()));
        Self { client, _driver: driver }
    }

    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url} does not open: {error}"));
    }

    /// Presses the button, link or label with this visible text, once there is one.
    pub async fn click_text(&self, text: &str) {
        let start = Instant::now();
        loop {
            // A page that changes meanwhile takes the element away, or covers it: then look again.
            let problem = match self.find(PRESSABLE, text).await {
                Ok(Some(element)) => match element.click().await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Ok(None) => "there is none".to_owned(),
                Err(error) => error.to_string(),
            };
            self.wait_more(start, || format!("“{text}” cannot be pressed: {problem}")).await;
        }
    }

    /// Types `value` into the field named `name` in place of what is there, or chooses it by an option's value.
    pub async fn fill(&self, name: &str, value: &str) {
        let start = Instant::now();
        loop {
            let problem = match self.find(FIELD, name).await {
                Ok(Some(field)) => match enter(&field, value).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Ok(None) => "there is none".to_owned(),
                Err(error) => error.to_string(),
            };
            self.wait_more(start, || format!("the field {name} cannot be filled: {problem}")).await;
        }
    }

    /// Waits until the page shows `text`; white space counts as one space.
    pub async fn wait_for_text(&self, text: &str) {
        let wanted = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let start = Instant::now();
        while !self.try_text().await.is_ok_and(|shown| shown.contains(&wanted)) {
            self.wait_more(start, || format!("the page does not show “{wanted}”")).await;
        }
    }

    pub async fn wait_until_gone(&self, text: &str) {
        let start = Instant::now();
        while !self.try_text().await.is_ok_and(|shown| !shown.contains(text)) {
            self.wait_more(start, || format!("the page still shows “{text}”")).await;
        }
    }

    /// What the page shows, with runs of white space made one space.
    pub async fn text(&self) -> String {
        self.try_text().await.expect("the page's text")
    }

    /// Saves what the screen shows as `name`.png in the folder MUSUBI_TEST_SCREENSHOTS; does nothing without one.
    pub async fn screenshot(&self, name: &str) {
        let Some(folder) = environment("MUSUBI_TEST_SCREENSHOTS") else { return };
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder).expect("the folder of the screenshots");
        let png = self.client.screenshot().await.expect("a screenshot");
        fs::write(folder.join(format!("{name}.png")), png).expect("the screenshot is written");
    }

    /// A command of Chromium's DevTools, such as `Emulation.setEmulatedMedia`.
    pub async fn devtools(&self, command: &'static str, parameters: Value) -> Value {
        let answer = self.client.issue_cmd(DevTools { command, parameters }).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Saves the whole page, as [`Self::screenshot`] does the screen.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = environment("MUSUBI_TEST_SCREENSHOTS") else { return };
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder).expect("the folder of the screenshots");
        let whole = json!({ "captureBeyondViewport": true, "format": "webp", "quality": 60 });
        let taken = self.devtools("Page.captureScreenshot", whole).await;
        let bytes = STANDARD.decode(taken["data"].as_str().unwrap_or_default()).expect("a picture");
        fs::write(folder.join(format!("{name}.webp")), bytes).expect("the picture is written");
    }

    pub async fn close(self) {
        let _ = self.client.clone().close().await;
    }

    async fn try_text(&self) -> Result<String, fantoccini::error::CmdError> {
        let text = self.client.execute(TEXT, Vec::new()).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    async fn find(&self, script: &str, argument: &str) -> Result<Option<Element>, fantoccini::error::CmdError> {
        let found = self.client.execute(script, vec![json!(argument)]).await?;
        let id = found.as_object().and_then(|reference| reference.values().next()).and_then(Value::as_str);
        Ok(id.map(|id| Element::from_element_id(self.client.clone(), ElementRef::from(id.to_owned()))))
    }

    async fn wait_more(&self, start: Instant, problem: impl FnOnce() -> String) {
        if start.elapsed() > PATIENCE {
            let url = self.client.current_url().await.map_or_else(|error| error.to_string(), String::from);
            let text = self.try_text().await.unwrap_or_else(|error| error.to_string());
            panic!("{}\nat {url}, which shows:\n{text}", problem());
        }
        sleep(PAUSE).await;
    }
}

/// What WebDriver has no word for.
#[derive(Debug)]
struct DevTools {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "cmd": self.command, "params": self.parameters }).to_string()))
    }
}

async fn enter(field: &Element, value: &str) -> Result<(), fantoccini::error::CmdError> {
    if field.tag_name().await? == "select" {
        return field.select_by_value(value).await;
    }
    field.clear().await?;
    field.send_keys(value).await
}

/// A chromedriver with its Chromium: a process group of their own, and a folder.
struct Driver {
    child: Child,
    folder: TempDir,
}

impl Driver {
    fn start(language: &str) -> Self {
        let program = environment("MUSUBI_TEST_CHROMEDRIVER").unwrap_or_else(|| "/usr/bin/chromedriver".into());
        let folder = tempfile::Builder::new().prefix("musubi-browser-").tempdir().expect("a folder for the browser");
        // A file, not a pipe: whoever outlives the test must not keep the test's own output open.
        let log = File::create(folder.path().join("log")).expect("the log of chromedriver");
        let child = Command::new(&program)
            .arg("--port=0")
            .env("LANGUAGE", language)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log of chromedriver"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                let program = program.display();
                panic!("{program} does not start: {error}; run tests/run, or set MUSUBI_TEST_CHROMEDRIVER")
            });
        Self { child, folder }
    }

    /// One that listens, and its port. It takes a free port of IPv6, which may be taken of IPv4: then another one.
    async fn listening(language: &str) -> (Self, u16) {
        loop {
            let driver = Self::start(language);
            if let Some(port) = driver.port().await {
                return (driver, port);
            }
        }
    }

    async fn port(&self) -> Option<u16> {
        let start = Instant::now();
        loop {
            let log = self.log();
            if log.contains("Address already in use") {
                return None;
            }
            let said = log.split_once("started successfully on port ").and_then(|(_, rest)| rest.split_once('.'));
            if let Some((port, _)) = said {
                return Some(port.parse().expect("a port"));
            }
            assert!(start.elapsed() < START_PATIENCE, "chromedriver does not start:\n{log}");
            sleep(PAUSE).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The shell's own kill: there is a shell everywhere, and a group cannot be ended from safe Rust.
        let script = format!("kill -s KILL -- -{}", self.child.id());
        let _ = Command::new("/bin/sh").args(["-c", &script]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        // The killed may still be about to go, and write until they have.
        for _ in 0..40 {
            if fs::remove_dir_all(self.folder.path()).is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn capabilities(screen: Screen, language: &str, nature: &Nature, reach: &[String], folder: &TempDir) -> Capabilities {
    let (width, height) = match screen {
        Screen::Phone | Screen::Line | Screen::Android => (390, 844),
        Screen::Desktop => (1280, 900),
    };
    let binary = environment("MUSUBI_TEST_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    let mut chrome = json!({
        "binary": binary.to_string_lossy(),
        "args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-proxy-server",
            format!("--window-size={width},{height}"),
            format!("--lang={language}"),
            format!("--user-data-dir={}", folder.path().join("profile").display()),
        ],
        "prefs": {
            "intl.accept_languages": language,
            "credentials_enable_service": false,
            "profile.password_manager_leak_detection": false,
        },
    });
    if let Some(arguments) = chrome["args"].as_array_mut() {
        arguments.extend(reach.iter().map(|argument| json!(argument)));
        // In all of its windows.
        arguments.extend((screen == Screen::Android).then(|| json!(format!("--user-agent={ANDROID}"))));
    }
    if screen != Screen::Desktop {
        chrome["mobileEmulation"] = json!({
            "deviceMetrics": { "width": width, "height": height, "pixelRatio": 2, "mobile": true, "touch": true },
        });
    }
    if screen == Screen::Line {
        chrome["mobileEmulation"]["userAgent"] = json!(LINE);
    }
    if let Some(user_agent) = nature.user_agent {
        if screen == Screen::Desktop {
            chrome["args"].as_array_mut().expect("a list").push(json!(format!("--user-agent={user_agent}")));
        } else {
            chrome["mobileEmulation"]["userAgent"] = json!(user_agent);
        }
    }
    if nature.refuses_cookies {
        chrome["prefs"]["profile.default_content_setting_values.cookies"] = json!(2);
    }
    let mut capabilities = Capabilities::new();
    capabilities.insert("browserName".to_owned(), json!("chrome"));
    capabilities.insert("goog:chromeOptions".to_owned(), chrome);
    capabilities
}

#[expect(clippy::disallowed_methods, reason = "where tests/run put things; musubi's configuration plays no part")]
fn environment(name: &str) -> Option<OsString> {
    std::env::var(name).ok().map(OsString::from)
}
