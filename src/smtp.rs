//! The way to the mail server: SMTP by `lettre`.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp,
};
use secrecy::ExposeSecret;

use crate::config::Config;

/// How long the mail server may take.
const LIMIT: Duration = Duration::from_secs(15);

/// A mail as it is sent, in both forms.
#[derive(Debug)]
pub struct Letter {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// The way to the mail server. Connections are made per mail: a company mails its members rarely.
#[derive(Clone)]
pub struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    reply_to: Option<Mailbox>,
    /// For message ids.
    host: String,
}

/// Why a mail did not leave.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("the mail cannot be written: {0}")]
    Message(#[from] lettre::error::Error),
    #[error("not a mailbox: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("mail server: {0}")]
    Smtp(#[from] smtp::Error),
}

impl PostError {
    /// Whether the same mail would be refused again.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Message(_) | Self::Address(_) => true,
            // Of the recipient. Other refusals are about us, and somebody mends them.
            Self::Smtp(error) => {
                error.status().is_some_and(|code| ["550", "551", "553"].contains(&code.to_string().as_str()))
            }
        }
    }
}

impl Post {
    /// None where the configuration has no `[mail]`.
    pub fn new(config: &Config) -> Result<Option<Self>, PostError> {
        let Some(mail) = &config.mail else { return Ok(None) };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(mail.url.expose_secret())?;
        Ok(Some(Self {
            transport: builder.timeout(Some(LIMIT)).build(),
            from: mailbox(&mail.from)?,
            reply_to: mail.reply_to.as_deref().map(mailbox).transpose()?,
            host: config.public_url.host_str().unwrap_or_default().to_owned(),
        }))
    }

    /// Hands a letter to the mail server.
    pub async fn send(&self, to: &str, letter: Letter) -> Result<(), PostError> {
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.parse()?))
            .subject(letter.subject)
            .message_id(Some(format!("<{}@{}>", uuid::Uuid::new_v4(), self.host)))
            // Nobody's holiday note answers it.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        let message = message.multipart(MultiPart::alternative_plain_html(letter.text, letter.html))?;
        self.transport.send(message).await?;
        Ok(())
    }

    /// Whether the mail server answers.
    pub async fn test(&self) -> Result<bool, PostError> {
        Ok(self.transport.test_connection().await?)
    }
}

/// A mailbox such as `Company <no-reply@example.jp>`.
fn mailbox(text: &str) -> Result<Mailbox, PostError> {
    Ok(text.parse()?)
}
