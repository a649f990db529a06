//! The world behind one listener: whichever host a browser or the application names, it reaches this gate by TLS, and there
//! what plays that host. The certificate is made for the test, and good for nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{CertifiedKey, PublicKeyData};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::PrivateKeyDer},
};

/// The first byte of whoever speaks TLS at once.
const HANDSHAKE: u8 = 22;
const LONGEST_HEAD: usize = 4096;

/// What plays a host.
#[derive(Clone)]
pub enum Player {
    Router(Router),
    /// A process of its own, without TLS.
    Process(SocketAddr),
}

pub struct Gate {
    pub address: SocketAddr,
    /// Hash of the certificate's key, by which Chromium takes it.
    pub key: String,
    /// The certificate, as OpenSSL writes it.
    pub certificate: String,
    players: Players,
    asked: Asked,
    open: tokio::task::JoinHandle<()>,
}

type Players = Arc<Mutex<BTreeMap<String, Player>>>;
/// Method, host, path.
type Asked = Arc<Mutex<Vec<String>>>;

impl Gate {
    /// With a certificate for these hosts. Those that nobody plays are hung up on.
    pub async fn open(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        let spki = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &signing_key.subject_public_key_info());
        let private = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, players, asked) = (TlsAcceptor::from(Arc::new(config)), Players::default(), Asked::default());
        let open = tokio::spawn({
            let (players, asked) = (players.clone(), asked.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(pass(stream, tls.clone(), players.clone(), asked.clone()));
                }
            }
        });
        Self { address, key: STANDARD.encode(spki), certificate: pem(cert.der()), players, asked, open }
    }

    /// From now on this plays the host.
    pub fn play(&self, name: &str, player: Player) {
        self.players.lock().unwrap().insert(name.to_owned(), player);
    }

    /// What browsers asked of routers since the last time.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open.abort();
    }
}

async fn note(State(asked): State<Asked>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let line = format!("{} {host}{}", request.method(), request.uri().path());
    asked.lock().unwrap().push(line);
    next.run(request).await
}

/// One connection, from whoever went to the host itself, or took this for a proxy.
async fn pass(mut stream: TcpStream, tls: TlsAcceptor, players: Players, asked: Asked) -> Option<()> {
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    // Browsers find every host here; the application is told of a proxy.
    let is_browser = first[0] == HANDSHAKE;
    if !is_browser {
        be_a_proxy(&mut stream).await?;
    }
    let mut stream = tls.accept(stream).await.ok()?;
    let player = players.lock().unwrap().get(stream.get_ref().1.server_name()?)?.clone();
    match player {
        Player::Router(router) => {
            let noted = router.clone().layer(middleware::from_fn_with_state(asked, note));
            let router = if is_browser { noted } else { router };
            let service = TowerToHyperService::new(router);
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok()
        }
        Player::Process(address) => {
            let mut process = TcpStream::connect(address).await.ok()?;
            copy_bidirectional(&mut stream, &mut process).await.ok().map(|_| ())
        }
    }
}

/// `CONNECT`, whatever its host: the name in the handshake counts.
async fn be_a_proxy(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok().filter(|_| head.len() < LONGEST_HEAD)?);
    }
    let status = if head.starts_with(b"CONNECT ") { StatusCode::OK } else { StatusCode::METHOD_NOT_ALLOWED };
    stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.ok()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
