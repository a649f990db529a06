//! The configuration that the demo runs with, written anew at each start.

use std::{fs, io, net::SocketAddr, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Failure, menus};

/// Where everything is in this run.
pub(super) struct Places<'a> {
    pub listen: SocketAddr,
    pub app: &'a str,
    pub simulator: &'a str,
    pub mail: &'a str,
}

struct Secrets {
    login: String,
    bot: String,
    sealing_key: String,
}

impl Secrets {
    /// Those of an earlier start, or new ones.
    fn of(file: &Path) -> Self {
        let former: toml::Table = fs::read_to_string(file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
        let kept = |path: &[&str]| {
            let (first, rest) = path.split_first()?;
            let found = rest.iter().try_fold(former.get(*first)?, |table, name| table.get(name))?;
            found.as_str().map(str::to_owned)
        };
        let secret = || uuid::Uuid::new_v4().simple().to_string();
        let key = || {
            let bytes = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
            STANDARD.encode(bytes)
        };
        Self {
            login: kept(&["provider", "main", "login", "channel_secret"]).unwrap_or_else(secret),
            bot: kept(&["channel", "main", "channel_secret"]).unwrap_or_else(secret),
            sealing_key: kept(&["security", "sealing_keys", "demo"]).unwrap_or_else(key),
        }
    }
}

pub(super) fn database_url(folder: &Path) -> io::Result<String> {
    Ok(format!("sqlite://{}", fs::canonicalize(folder)?.join("musubi.db").display()))
}

/// Writes the file; secrets of an earlier start are kept.
pub(super) fn write(file: &Path, folder: &Path, places: &Places<'_>) -> Result<(), Failure> {
    let Places { listen, app, simulator, mail } = places;
    let Secrets { login: login_secret, bot: bot_secret, sealing_key } = Secrets::of(file);
    let database = database_url(folder)?;
    let menus = toml::Value::from(menus::folder(folder)?.display().to_string());
    let text = format!(
        r#"# Written by `musubi demo`; the secrets are of this machine only.
public_url = "{app}"
listen = "{listen}"
database_url = "{database}"
company = "Musubi Demo"
time_zone = "Asia/Tokyo"
default_locale = "en"

[security]
sealing_key = "demo"
sealing_keys = {{ demo = "{sealing_key}" }}

# Mails go no further than the simulator's mailbox.
[mail]
url = "{mail}"
from = "Musubi Demo <no-reply@example.com>"

# What members choose among on their page of preferences.
[topic.news]
label = {{ en = "News and tips", ja = "お知らせとヒント", th = "ข่าวสารและเคล็ดลับ", zh-TW = "最新消息與小祕訣" }}
description = {{ en = "About once a month", ja = "月に1回程度", th = "ประมาณเดือนละครั้ง", zh-TW = "大約每月一次" }}

[topic.offers]
label = {{ en = "Offers", ja = "キャンペーン", th = "ข้อเสนอพิเศษ", zh-TW = "優惠活動" }}

# Where a person may be sent who has linked by a ticket: a site of your own that you try things with.
[tickets]
return_urls = ["http://localhost:3000", "http://127.0.0.1:3000"]

# LINE, played by the simulator. Without this section the same configuration talks to LINE itself.
[line]
access = "{simulator}"
api = "{simulator}"
api_data = "{simulator}"
liff = "{simulator}"
liff_sdk = "{simulator}/liff/edge/2/sdk.js"
pictures = "{simulator}"

# Written once, then yours to change.
[rich_menu]
folder = {menus}

[hooks]
allow_networks = ["127.0.0.0/8", "::1/128"]    # this machine

[provider.main]
label = "LINE"

[provider.main.login]
channel_id = "2000000001"
channel_secret = "{login_secret}"
bot_prompt = "normal"
channel = "main"
liff_id = "2000000001-MusubiLi"

[channel.main]
provider = "main"
channel_id = "2000000002"
channel_secret = "{bot_secret}"
basic_id = "@musubi-demo"
"#
    );
    Ok(fs::write(file, text)?)
}
