//! The real binary: processes, a place for them, a browser and a simulator of LINE, each at a port of its own.
#![allow(clippy::panic, clippy::unwrap_used, dead_code, reason = "a test that cannot go on fails, and says why")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use musubi::{
    app::{App, Clock},
    config::Config,
    db::Db,
    member,
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BOT_CHANNEL, BOT_SECRET, Engine, LIFF_ID, LOGIN_CHANNEL, LOGIN_SECRET, PASSWORD, postgres};

/// Where the application says it is; the tests go to the port that it took.
pub const PUBLIC: &str = "http://localhost:9";
const FORM: &str = "application/x-www-form-urlencoded";
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `musubi`; killed when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    pub told: Vec<String>,
}

impl Process {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With these in its environment, and nothing else.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_musubi")), arguments, environment)
    }

    /// With so many file descriptors at most.
    pub fn start_with_files(files: usize, arguments: &[&str]) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_musubi")]);
        Self::start_by(shell, arguments, &[])
    }

    fn start_by(mut command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        command
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        read_lines(child.stdout.take().unwrap(), sender.clone());
        read_lines(child.stderr.take().unwrap(), sender);
        Self { child, lines, told: Vec::new() }
    }

    /// Waits for a line with these words.
    pub fn wait_for(&mut self, words: &str) -> String {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.told.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
        panic!("{words:?} was not told, but: {:#?}", self.told);
    }

    /// Waits for the end; gives the exit code and everything that was told.
    pub fn end(mut self) -> (Option<i32>, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.told.push(line);
        }
        let over = matches!(self.lines.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
        let told = self.told.join("\n");
        assert!(over, "still running, after: {told}");
        (self.child.wait().unwrap().code(), told)
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Asks it to stop and waits.
    pub fn stop(self) -> String {
        self.terminate();
        let (code, told) = self.end();
        assert_eq!(code, Some(0), "{told}");
        assert!(!told.contains("did not end in time"), "{told}");
        assert!(!told.contains('\u{1b}'), "colours where there is no terminal: {told}");
        told
    }

    /// Waits until it ended itself, as at a place of `src/kill.rs`.
    pub fn end_by_abort(self) {
        let (code, told) = self.end();
        assert_eq!(code, None, "no signal ended it: {told}");
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
}

/// Runs to the end.
pub fn run(arguments: &[&str]) -> (Option<i32>, String) {
    Process::start(arguments).end()
}

/// The word in `line` that follows `before`.
pub fn word<'l>(line: &'l str, before: &str) -> &'l str {
    let rest = line.split_once(before).unwrap_or_else(|| panic!("no {before} in {line}")).1;
    rest.split_whitespace().next().unwrap()
}

/// A folder, a configuration in it, and its database.
pub struct Place {
    pub folder: TempDir,
    pub database_url: String,
    pub engine: Engine,
}

impl Place {
    pub async fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database_url = match engine {
            Engine::Sqlite => format!("sqlite://{}/musubi.db", folder.path().display()),
            Engine::Postgres => postgres::fresh_database().await,
        };
        Self { folder, database_url, engine }
    }

    /// Writes a configuration, with `more` at its top; gives its path.
    pub fn config(&self, name: &str, line: &str, more: &str) -> String {
        let text = format!(
            r#"
            {more}
            public_url = "{PUBLIC}"
            database_url = "{}"
            company = "Example Company"
            default_locale = "en"
            line = {{ access = "{line}", api = "{line}", api_data = "{line}", liff = "{line}", pictures = "{line}" }}

            [security]
            sealing_key = "test"
            sealing_keys = {{ test = "yVqOczA5k8UOOBIL+mBfzBQ3UWTa8xu8jd/Cjvkp60g=" }}
            password_hash = {{ memory_kib = 64, passes = 1, at_once = 4 }}
            requests_per_minute = 1000000

            [provider.main.login]
            channel_id = "{LOGIN_CHANNEL}"
            channel_secret = "{LOGIN_SECRET}"
            channel = "main"
            liff_id = "{LIFF_ID}"

            [channel.main]
            provider = "main"
            channel_id = "{BOT_CHANNEL}"
            channel_secret = "{BOT_SECRET}"
            "#,
            self.database_url
        );
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The same with a copy of the database, which nobody uses at this moment.
    pub async fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database_url = match self.engine {
            Engine::Sqlite => {
                for name in ["musubi.db", "musubi.db-wal"].iter().filter(|name| self.path(name).exists()) {
                    fs::copy(self.path(name), folder.path().join(name)).unwrap();
                }
                format!("sqlite://{}/musubi.db", folder.path().display())
            }
            Engine::Postgres => postgres::copy_database(&self.database_url).await,
        };
        Self { folder, database_url, engine: self.engine }
    }

    /// A configuration for a process that need not reach LINE.
    pub fn alone(&self) -> String {
        self.config("musubi.toml", "http://127.0.0.1:9", "listen = \"127.0.0.1:0\"")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn db(&self) -> Db {
        Db::connect(&self.database_url).await.unwrap()
    }

    pub async fn execute(&self, statement: &'static str) {
        let db = self.db().await;
        sqlx::raw_sql(statement).execute(&mut *db.conn().await.unwrap()).await.unwrap();
        db.close().await;
    }

    /// The application's own eyes: on the same database, with the configuration of a file.
    pub async fn app(&self, config: &str) -> App {
        let config = Config::load(Some(config.as_ref())).unwrap();
        App::new(config, self.db().await, Clock::default()).unwrap()
    }

    pub async fn end(self) {
        if self.engine == Engine::Postgres {
            postgres::drop_database(&self.database_url).await;
        }
    }
}

/// Starts a simulator for the channels of [`Place::config`].
pub fn start_simulator(place: &Place) -> (Process, Line) {
    let config = place.config("line.toml", "http://127.0.0.1:9", "");
    let mut simulator = Process::start(&["simulator", "--config", &config, "--listen", "127.0.0.1:0"]);
    let told = simulator.wait_for("is played on");
    let url = word(&told, "played on").strip_suffix("/_sim/").unwrap().to_owned();
    (simulator, Line::at(&url))
}

/// Starts the application; gives where it listens.
pub fn start_server(config: &str, environment: &[(&str, &str)]) -> (Process, String) {
    let mut server = Process::start_with(&["serve", "--config", config], environment);
    let serving = server.wait_for("serving");
    let base = format!("http://{}", word(&serving, "listen="));
    (server, base)
}

/// A browser at a port, which keeps cookies and follows nothing.
#[derive(Clone)]
pub struct Browser {
    pub client: reqwest::Client,
    pub base: String,
    pub origin: String,
    pub cookies: BTreeMap<String, String>,
    /// Every answer so far.
    pub seen: Vec<Page>,
}

#[derive(Clone)]
pub struct Page {
    pub path: String,
    pub status: StatusCode,
    pub location: String,
    pub headers: String,
    pub body: String,
}

impl Browser {
    #[expect(clippy::disallowed_methods, reason = "a browser, not the application's client of LINE")]
    pub fn new(base: &str, origin: &str) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.timeout(PATIENCE).build().unwrap();
        Self { client, base: base.to_owned(), origin: origin.to_owned(), cookies: BTreeMap::new(), seen: Vec::new() }
    }

    pub async fn get(&mut self, path: &str) -> Page {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self.token().await;
        self.send(Method::POST, path, Some((FORM, form(fields, &token)))).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<(&str, String)>) -> Page {
        self.try_send(method, path, body).await.unwrap()
    }

    /// None where the other side died.
    pub async fn try_get(&mut self, path: &str) -> Option<Page> {
        self.try_send(Method::GET, path, None).await.ok()
    }

    /// A form with the token that was read before.
    pub async fn try_post(&mut self, path: &str, token: &str, fields: &[(&str, &str)]) -> Option<Page> {
        self.try_send(Method::POST, path, Some((FORM, form(fields, token)))).await.ok()
    }

    /// Shows the tokens of a LIFF app, as the script of its page does.
    pub async fn try_show(&mut self, tokens: &Value) -> Option<Page> {
        let shown = json!({ "id_token": tokens["id_token"], "access_token": tokens["access_token"] });
        self.try_send(Method::POST, "/liff/main/session", Some(("application/json", shown.to_string()))).await.ok()
    }

    pub async fn token(&mut self) -> String {
        let home = self.get("/").await.body;
        home.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    async fn try_send(&mut self, method: Method, path: &str, body: Option<(&str, String)>) -> reqwest::Result<Page> {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        request = request.header(header::COOKIE, cookies.join("; ")).header(header::USER_AGENT, "test browser");
        request = request.header(header::HOST, self.origin.split("//").nth(1).unwrap());
        if let Some((kind, body)) = body {
            request = request
                .header(header::CONTENT_TYPE, kind)
                .header("x-musubi-liff", "1")
                .header(header::ORIGIN, &self.origin)
                .header("sec-fetch-site", "same-origin")
                .body(body);
        }
        let answer = request.send().await?;
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let location = answer.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        let (status, location) = (answer.status(), location.unwrap_or_default());
        let headers = format!("{:?}", answer.headers());
        let page = Page { path: path.to_owned(), status, location, headers, body: answer.text().await? };
        self.seen.push(page.clone());
        Ok(page)
    }

    pub async fn sign_in(&mut self, email: &str) {
        let page = self.post("/sign-in", &[("email", email), ("password", PASSWORD)]).await;
        assert_eq!(page.status, 303, "{email} {}", page.body);
    }

    /// Goes to LINE as `user` and comes back: the callback's path, not opened yet.
    pub async fn come_back(&mut self, line: &Line, purpose: &str, user: &str) -> String {
        let fields = [("purpose", purpose), ("provider", "main"), ("return_to", "/account")];
        let authorize = self.post("/line/start", &fields).await.location;
        line.consent(&authorize, user).await
    }

    /// Goes to the confirm page through LINE; gives the attempt's id.
    pub async fn reach_confirm(&mut self, line: &Line, user: &str) -> String {
        let callback = self.come_back(line, "link", user).await;
        let page = self.get(&callback).await;
        let attempt = page.location.strip_prefix("/link/confirm?attempt=");
        attempt.unwrap_or_else(|| panic!("{} {} {}", page.status, page.location, page.body)).to_owned()
    }

    pub async fn confirm(&mut self, attempt: &str) {
        let page = self.post("/link/confirm", &[("attempt", attempt), ("decision", "yes"), ("consent", "1:en")]).await;
        assert_eq!(page.location, "/account?done=linked", "{} {}", page.status, page.body);
    }
}

fn form(fields: &[(&str, &str)], token: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields).append_pair("csrf", token).finish()
}

/// A simulator of LINE, by its control API.
#[derive(Clone)]
pub struct Line(pub Browser);

impl Line {
    pub fn at(url: &str) -> Self {
        Self(Browser::new(url, url))
    }

    pub async fn order(&self, path: &str, body: Value) -> Value {
        let request = self.0.client.post(format!("{}{path}", self.0.base)).json(&body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap_or(Value::Null)
    }

    pub async fn ask(&self, path: &str) -> Value {
        let request = self.0.client.get(format!("{}{path}", self.0.base));
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// What `user` says at LINE; gives the callback's path and query.
    pub async fn consent(&self, authorize: &str, user: &str) -> String {
        self.order("/_sim/logins", json!({ "user_id": user, "outcome": "consent", "add_friend": true })).await;
        let path = authorize.strip_prefix(&self.0.base).unwrap_or_else(|| panic!("not to LINE: {authorize}"));
        let back = self.0.clone().get(path).await;
        let callback = url::Url::parse(&back.location);
        let callback = callback.unwrap_or_else(|error| panic!("{error}: {} {}", back.status, back.body));
        assert_eq!(callback.host_str(), Some("localhost"), "{callback}");
        format!("{}?{}", callback.path(), callback.query().unwrap_or_default())
    }

    pub async fn person(&self) -> String {
        let made = self.order("/_sim/users", json!({ "display_name": "はなこ" })).await;
        made["user_id"].as_str().unwrap().to_owned()
    }

    /// A friend of the official account, who tells it nothing.
    pub async fn friend(&self) -> String {
        let user = self.person().await;
        self.order(&format!("/_sim/users/{user}/follow"), json!({ "standby": true })).await;
        user
    }

    /// What the official account said to a person, text by text.
    pub async fn said(&self, user: &str) -> Vec<String> {
        let chat = self.ask(&format!("/_sim/users/{user}/chat")).await;
        let messages = chat["messages"].as_array().unwrap().iter();
        messages.filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
    }

    pub async fn forget_faults(&self) {
        let request = self.0.client.delete(format!("{}/_sim/faults", self.0.base));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// The calls whose path begins so.
    pub async fn calls_to(&self, path: &str) -> Vec<Value> {
        let ledger = self.ask("/_sim/ledger").await;
        assert_eq!(ledger["forgotten"], 0);
        let calls = ledger["calls"].as_array().unwrap().iter();
        calls.filter(|call| call["path"].as_str().unwrap().starts_with(path)).cloned().collect()
    }

    /// The pushes that reached a person, by key.
    pub async fn delivered(&self, user: &str) -> Vec<u64> {
        let ledger = self.ask("/_sim/ledger").await;
        let all = ledger["deliveries"].as_array().unwrap().iter();
        all.filter(|one| one["user_id"] == user).map(|one| one["count"].as_u64().unwrap()).collect()
    }
}

/// Adds a member with [`PASSWORD`].
pub async fn add_member(app: &App, email: &str) -> String {
    let password_hash = member::password::hash(app, PASSWORD).await.unwrap();
    let new = member::New {
        email,
        email_key: email,
        name: "Hanako",
        password_hash: Some(&password_hash),
        locale: None,
        source: "company",
    };
    member::insert(&mut app.db.conn().await.unwrap(), app.now(), &new).await.unwrap().unwrap()
}

/// Looks again and again until it is so.
pub async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to be");
}
