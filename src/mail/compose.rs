//! What a mail says, decided and written when it is sent.

use std::time::Duration;

use askama::Template;

use super::{Mail, Waiting};
use crate::{
    app::App,
    config::Palette,
    db::Conn,
    error::{Error, Result},
    member::{
        self,
        token::{self, Purpose},
    },
    smtp::Letter,
    web::{locale::Locale, page},
};

const HOUR: Duration = Duration::from_secs(3600);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a mail for somebody unknown is not sent.
pub(super) const NOBODY: &str = "no_account";

/// One letter in the shape that all of them have.
struct Content {
    /// How its texts begin in the catalogue, under `mail`.
    key: &'static str,
    /// `{1}` of its text.
    detail: String,
    url: Option<String>,
    code: Option<String>,
    /// Where it is not the recipient as asked for: the address as its owner wrote it.
    to: Option<String>,
}

#[derive(Template)]
#[template(path = "mail/letter.txt")]
struct Text<'a> {
    letter: &'a Shown,
}

#[derive(Template)]
#[template(path = "mail/letter.html")]
struct Html<'a> {
    letter: &'a Shown,
}

struct Shown {
    lang: &'static str,
    subject: String,
    text: String,
    button: String,
    url: Option<String>,
    code: Option<String>,
    note: String,
    palettes: Option<[Palette; 2]>,
    company: String,
    home: String,
    footer: String,
}

/// Writes a mail, with a new token where it carries one, or says why it is not to be sent.
pub(super) async fn compose(
    conn: &mut Conn,
    app: &App,
    waiting: &Waiting,
) -> Result<Result<(String, Letter), &'static str>> {
    let mail: Mail = serde_json::from_str(&waiting.mail)?;
    Ok(match decide(conn, app, waiting, mail).await? {
        Ok(mut content) => {
            let to = content.to.take().unwrap_or_else(|| waiting.recipient.clone());
            Ok((to, write(app, &waiting.locale, content)?))
        }
        Err(why) => Err(why),
    })
}

async fn decide(conn: &mut Conn, app: &App, waiting: &Waiting, mail: Mail) -> Result<Result<Content, &'static str>> {
    let owner = member::find_by_email_key(conn, &waiting.recipient_key).await?;
    let member_id = waiting.member_id.as_deref();
    let known = owner.as_ref().map(|owner| owner.email.clone());
    let told = |key, detail: String| Ok(Ok(Content { key, detail, url: None, code: None, to: None }));
    let taken = |key, path| {
        Ok(Ok(Content { key, detail: String::new(), url: Some(app.config.url(path)), code: None, to: known.clone() }))
    };
    match mail {
        Mail::SignUp { .. } if owner.is_some() => taken("sign_up_taken", "/password/forgot"),
        Mail::SignUp { sign_up_id } => {
            let new = token::New { purpose: Purpose::SignUp, member_id: None, subject: &sign_up_id, life: HOUR };
            linked(conn, app, "sign_up", "/sign-up/confirm", new, String::new()).await
        }
        Mail::Reset => {
            let Some(owner) = owner.filter(|owner| owner.disabled_at.is_none()) else { return Ok(Err(NOBODY)) };
            let new = token::New {
                purpose: Purpose::Reset,
                member_id: Some(&owner.id),
                subject: &waiting.recipient_key,
                life: TEN_MINUTES,
            };
            let linked = linked(conn, app, "reset", "/password/reset", new, String::new()).await?;
            // As its owner wrote it: another spelling of the local part may be somebody else's mailbox.
            Ok(linked.map(|content| Content { to: Some(owner.email), ..content }))
        }
        Mail::ChangeEmail if owner.is_some() => taken("change_email_taken", "/sign-in"),
        Mail::ChangeEmail => {
            let subject = &waiting.recipient;
            let new = token::New { purpose: Purpose::ChangeEmail, member_id, subject, life: HOUR };
            linked(conn, app, "change_email", "/account/email/confirm", new, String::new()).await
        }
        Mail::Code { lineage_id } => {
            let code = app.random_code()?;
            let new = token::New { purpose: Purpose::Code, member_id, subject: &lineage_id, life: TEN_MINUTES };
            token::insert(conn, app, &new, &token::of_code(app, &lineage_id, &code)).await?;
            let code = format!("{}-{}", &code[..4], &code[4..]);
            Ok(Ok(Content { key: "code", detail: String::new(), url: None, code: Some(code), to: None }))
        }
        Mail::Linked { link_id, line_name } => {
            let new = token::New { purpose: Purpose::UndoLink, member_id, subject: &link_id, life: WEEK };
            let nameless = || app.texts.get(language(app, &waiting.locale), "line.nameless").to_owned();
            let line_name = if line_name.is_empty() { nameless() } else { line_name };
            linked(conn, app, "linked", "/link/undo", new, line_name).await
        }
        Mail::PasswordChanged => taken("password_changed", "/password/forgot"),
        Mail::EmailChanged { new_email } if new_email.is_empty() => told("email_removed", String::new()),
        Mail::EmailChanged { new_email } => told("email_changed", member::masked_email(&new_email)),
        Mail::SessionEnded => taken("session_ended", "/account/sessions"),
        Mail::AccountDeleted { name } => told("account_deleted", name),
    }
}

/// A letter whose button proves that somebody reads this mailbox.
async fn linked(
    conn: &mut Conn,
    app: &App,
    key: &'static str,
    path: &str,
    new: token::New<'_>,
    detail: String,
) -> Result<Result<Content, &'static str>> {
    let secret = app.random_token()?;
    token::insert(conn, app, &new, &secret).await?;
    let url = app.config.url(&format!("{path}?token={secret}"));
    Ok(Ok(Content { key, detail, url: Some(url), code: None, to: None }))
}

fn language(app: &App, locale: &str) -> Locale {
    Locale::of_tag(locale).or_else(|| Locale::of_tag(&app.config.default_locale)).unwrap_or(Locale::En)
}

fn write(app: &App, locale: &str, content: Content) -> Result<Letter> {
    let locale = language(app, locale);
    let text = |part: &str| app.texts.get(locale, &format!("mail.{}_{part}", content.key)).to_owned();
    let company = app.config.company.as_str();
    let detail = unlinkable(&content.detail);
    let shown = Shown {
        lang: locale.tag(),
        // Nothing but the company's name is filled in here, and it needs no isolation.
        subject: text("subject").replace("{0}", company),
        text: page::fill(&text("text"), &[company, &detail]),
        button: content.url.as_ref().map(|_| text("button")).unwrap_or_default(),
        note: text("note"),
        url: content.url,
        code: content.code,
        palettes: app.brand.palettes,
        company: company.to_owned(),
        home: app.config.public_url.to_string(),
        footer: page::fill(app.texts.get(locale, "mail.footer"), &[company]),
    };
    Ok(Letter {
        text: Text { letter: &shown }.render().map_err(Error::internal)?,
        html: Html { letter: &shown }.render().map_err(Error::internal)?,
        subject: shown.subject,
    })
}

/// A name that somebody chose, so that no mail program makes a link of it.
fn unlinkable(name: &str) -> String {
    let plain = name.chars().filter(|c| !c.is_control()).take(60);
    plain
        .map(|c| match c {
            '.' => '\u{2024}',
            ':' => '\u{a789}',
            '/' => '\u{2215}',
            '@' => '\u{ff20}',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_makes_no_link() {
        for (name, expected) in [
            ("はなこ", "はなこ"),
            ("https://evil.example/a", "https\u{a789}\u{2215}\u{2215}evil\u{2024}example\u{2215}a"),
            ("a@evil.example", "a\u{ff20}evil\u{2024}example"),
            ("a\r\nBcc: b", "aBcc\u{a789} b"),
        ] {
            assert_eq!(unlinkable(name), expected);
        }
    }
}
