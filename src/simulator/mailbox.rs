//! Everybody's mailbox: a mail server that takes whatever it is given and delivers nothing, the page that shows it,
//! and the same for tests.
//!
//! Written from RFC 5321; no mail leaves this machine. A fault on the endpoint `SMTP` is struck at the end of the
//! data: its status is the reply, `cut` drops the connection before or after the mail is taken.

use std::time::Duration;

use askama::Template;
use axum::{
    Router,
    extract::{Path, Query, State},
    http::{Method, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use mail_parser::MessageParser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{
    Simulator, answer,
    fault::{self, Cut},
    phone,
};

/// Mails that are kept.
const MOST: usize = 500;
/// The longest mail and the longest line that are taken.
const LONGEST: usize = 1024 * 1024;

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Mail {
    pub number: u64,
    pub at: i64,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
}

pub(super) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/_sim/mails", get(list))
        .route("/_sim/mailbox", get(mailbox))
        .route("/_sim/mailbox/{number}", get(letter))
        .route("/_sim/mailbox/{number}/html", get(html))
}

impl Simulator {
    /// Takes mails on `listener` until the task is dropped.
    pub async fn serve_mail(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let simulator = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = converse(&simulator, stream).await {
                            tracing::debug!(%error, "a mail connection ended early");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a mail connection could not be taken");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// One connection, command by command.
async fn converse(sim: &Simulator, stream: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut recipients: Vec<String> = Vec::new();
    writer.write_all(b"220 simulator ESMTP\r\n").await?;
    while let Some(line) = read_line(&mut reader).await? {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let reply = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-simulator\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n".to_owned(),
            "HELO" | "NOOP" => "250 OK\r\n".to_owned(),
            "MAIL" | "RSET" => {
                recipients.clear();
                "250 OK\r\n".to_owned()
            }
            "RCPT" => {
                let address = rest.split(['<', '>']).nth(1).unwrap_or_default();
                recipients.push(address.to_owned());
                "250 OK\r\n".to_owned()
            }
            "DATA" if recipients.is_empty() => "503 no recipient\r\n".to_owned(),
            "DATA" => {
                writer.write_all(b"354 go ahead\r\n").await?;
                let Some(data) = read_data(&mut reader).await? else { return Ok(()) };
                let (reply, delay) = take(sim, &std::mem::take(&mut recipients), &data);
                tokio::time::sleep(delay).await;
                match reply {
                    Some(reply) => reply,
                    None => return Ok(()),
                }
            }
            "QUIT" => {
                writer.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 not here\r\n".to_owned(),
        };
        writer.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut limited = tokio::io::AsyncReadExt::take(reader, LONGEST as u64);
    let read = limited.read_until(b'\n', &mut line).await?;
    Ok((read > 0).then_some(line))
}

/// The mail until its final dot; dots that stand for themselves lose one.
async fn read_data(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut data = Vec::new();
    while let Some(line) = read_line(reader).await? {
        if line == b".\r\n" {
            return Ok(Some(data));
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        if data.len() > LONGEST {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Keeps a mail, or does what a fault says. Gives the reply, none to cut the connection, and how long it is held back.
fn take(sim: &Simulator, recipients: &[String], data: &[u8]) -> (Option<String>, Duration) {
    let fault = fault::take(&mut sim.state().faults, &Method::POST, "SMTP");
    let delay = Duration::from_millis(fault.as_ref().and_then(|fault| fault.delay_ms).unwrap_or_default());
    let (cut, status) = fault.map(|fault| (fault.cut, fault.status)).unwrap_or_default();
    if cut == Some(Cut::Before) {
        return (None, delay);
    }
    if let Some(status) = status {
        return (Some(format!("{status} fault\r\n")), delay);
    }
    keep(sim, recipients, data);
    ((cut != Some(Cut::After)).then(|| "250 taken\r\n".to_owned()), delay)
}

fn keep(sim: &Simulator, recipients: &[String], data: &[u8]) {
    let mut state = sim.state();
    let message = MessageParser::default().parse(data);
    let part = |found: Option<std::borrow::Cow<'_, str>>| found.unwrap_or_default().into_owned();
    for to in recipients {
        let number = state.mails.last().map_or(1, |mail| mail.number + 1);
        let mail = Mail {
            number,
            at: sim.now(),
            from: part(message.as_ref().and_then(|m| m.header_raw("From").map(|raw| raw.trim().to_owned().into()))),
            to: to.clone(),
            subject: part(message.as_ref().and_then(|m| m.subject().map(Into::into))),
            text: part(message.as_ref().and_then(|m| m.body_text(0))),
            html: part(message.as_ref().and_then(|m| m.body_html(0))),
        };
        state.mails.push(mail);
    }
    let many = state.mails.len();
    state.mails.drain(..many.saturating_sub(MOST));
    drop(state);
    sim.changed();
}

#[derive(Deserialize)]
struct Whose {
    to: Option<String>,
}

/// `GET /_sim/mails?to=`: oldest first.
async fn list(State(sim): State<Simulator>, Query(whose): Query<Whose>) -> Response {
    let state = sim.state();
    let mails: Vec<_> =
        state.mails.iter().filter(|mail| whose.to.as_ref().is_none_or(|to| mail.to.eq_ignore_ascii_case(to))).collect();
    answer::ok(json!({ "mails": mails }))
}

#[derive(Template)]
#[template(path = "simulator/mailbox.html")]
struct Mailbox {
    mails: Vec<Mail>,
}

#[derive(Template)]
#[template(path = "simulator/letter.html")]
struct Letter {
    mail: Mail,
}

async fn mailbox(State(sim): State<Simulator>) -> Response {
    let mails = sim.state().mails.iter().rev().cloned().collect();
    phone::page(&Mailbox { mails })
}

async fn letter(State(sim): State<Simulator>, Path(number): Path<u64>) -> Response {
    match find(&sim, number) {
        Some(mail) => phone::page(&Letter { mail }),
        None => (StatusCode::NOT_FOUND, Html("There is no such mail.")).into_response(),
    }
}

/// The mail's HTML alone, for its frame. Its buttons open in the window that the frame is in.
async fn html(State(sim): State<Simulator>, Path(number): Path<u64>) -> Response {
    let Some(mail) = find(&sim, number) else { return StatusCode::NOT_FOUND.into_response() };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; \
                  sandbox allow-top-navigation-by-user-activation allow-popups";
    let body = mail.html.replacen("<head>", "<head><base target=\"_top\">", 1);
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(body)).into_response()
}

fn find(sim: &Simulator, number: u64) -> Option<Mail> {
    sim.state().mails.iter().find(|mail| mail.number == number).cloned()
}
