//! The page about a campaign for browsers on this machine: served over HTTP, and kept up to date while the campaign goes on.
//!
//! `/` is the page, `/data.json` its data with a tag, for which the page asks every few seconds. There is no authentication; so that no page
//! from elsewhere can read it through a browser here, hosts are known by address only ([`is_address`]).

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};
use tiny_http::{Header, Method, Request, Response, Server};

use super::page::{self, Reader, Refresh};

/// Seconds from one look of the page to the next: campaigns write metrics as often.
const REFRESH: u64 = 5;
/// How soon a wish to stop is noticed.
const PATIENCE: Duration = Duration::from_millis(200);
/// What the page may do: run what is in it, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
form-action 'none'; frame-ancestors 'none'";

/// A server with its address.
pub struct Live {
    server: Server,
    address: SocketAddr,
}

/// What is sent for a request.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    kind: &'static str,
    /// Identifies the content.
    tag: Option<String>,
    body: Vec<u8>,
}

impl Live {
    /// Listens at an address; port 0 stands for any that is free.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| {
            format!("cannot listen at {address} (choose another port; 0 takes any that is free)")
        })?;
        let address = listener.local_addr().with_context(|| format!("cannot listen at {address}"))?;
        let server = Server::from_listener(listener, None)
            .map_err(|error| anyhow!("cannot serve at {address}: {error}"))?;
        Ok(Self { server, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop` is set.
    ///
    /// # Errors
    /// When no more requests can be taken.
    pub fn run(&self, reader: &mut Reader, stop: &AtomicBool) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let request = self.server.recv_timeout(PATIENCE).context("cannot take requests")?;
            if let Some(request) = request {
                let answer = answer_to(reader, &request);
                // A browser that takes its time keeps nobody else waiting.
                std::thread::spawn(move || send(request, answer));
            }
        }
        Ok(())
    }
}

fn answer_to(reader: &mut Reader, request: &Request) -> Answer {
    let value = |name: &'static str| {
        request.headers().iter().find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
    };
    if !matches!(request.method(), Method::Get | Method::Head) {
        return Answer::text(405, "there is only something to read here");
    }
    answer(reader, request.url(), value("Host"), value("If-None-Match"))
}

/// The answer to a request for a path, from a client that knows the content with the tag `known`.
fn answer(reader: &mut Reader, path: &str, host: Option<&str>, known: Option<&str>) -> Answer {
    if !host.is_some_and(is_address) {
        return Answer::text(403, "ask by address: http://127.0.0.1:PORT/");
    }
    if !matches!(path, "/" | "/data.json") {
        return Answer::text(404, "there is nothing of this name");
    }
    match content(reader) {
        Err(error) => Answer::text(500, &format!("{error:#}")),
        Ok((_, _, tag)) if path == "/data.json" && known == Some(&tag) => {
            Answer { status: 304, kind: "application/json", tag: Some(tag), body: Vec::new() }
        }
        Ok((_, json, tag)) if path == "/data.json" => {
            Answer { status: 200, kind: "application/json", tag: Some(tag), body: json.into_bytes() }
        }
        Ok((title, json, tag)) => {
            let page = page::render(&title, &json, Some(Refresh { every: REFRESH, tag: &tag }));
            Answer { status: 200, kind: "text/html; charset=utf-8", tag: None, body: page.into_bytes() }
        }
    }
}

/// What the page is called, its data, and a tag that changes when they do.
fn content(reader: &mut Reader) -> anyhow::Result<(String, String, String)> {
    let data = reader.read()?;
    let json = serde_json::to_string(&data)?;
    let hash: String = Sha256::digest(&json).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok((data.campaign.target, json, format!("\"{hash}\"")))
}

/// Whether a host of a request is an address or `localhost`. A name could be anybody's, who lets it point to this machine and has a page of
/// theirs read what is here.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok()
}

impl Answer {
    fn text(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", tag: None, body: text.into() }
    }
}

fn send(request: Request, answer: Answer) {
    let headers = [
        ("Content-Type", answer.kind),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
    ];
    let tag = answer.tag.as_deref().map(|tag| ("ETag", tag));
    let headers =
        headers.into_iter().chain(tag).filter_map(|(name, value)| Header::from_bytes(name, value).ok());
    let response =
        Response::from_data(answer.body).with_status_code(answer.status).with_chunked_threshold(usize::MAX);
    let response = headers.fold(response, |response, header| response.with_header(header));
    // Who went away meanwhile does not want it any more.
    let _ = request.respond(response);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::store::Description;

    const HOST: Option<&str> = Some("127.0.0.1:8080");

    fn campaign() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let description = Description::any(1);
        std::fs::create_dir(dir.path().join("findings")).unwrap();
        std::fs::write(dir.path().join("campaign.json"), serde_json::to_string(&description).unwrap())
            .unwrap();
        dir
    }

    #[test]
    fn data_are_sent_again_only_when_they_have_changed() {
        let dir = campaign();
        let mut reader = Reader::new(dir.path());
        let first = answer(&mut reader, "/data.json", HOST, None);
        assert_eq!((first.status, first.kind), (200, "application/json"));
        let page = String::from_utf8(answer(&mut reader, "/", HOST, None).body).unwrap();
        let tag = first.tag.unwrap();
        assert!(page.contains("data-refresh=\"5\"") && page.contains(&tag.replace('"', "&quot;")), "{page}");
        assert_eq!(answer(&mut reader, "/data.json", HOST, Some(&tag)).status, 304);
        // As it looks while a line is being written: half of it does not count.
        let line =
            r#"{"session":1,"seconds":5.0,"executions":10,"calls":50,"edges":7,"corpus":3,"findings":0}"#;
        std::fs::write(dir.path().join("metrics.jsonl"), format!("{line}\n{}", &line[..20])).unwrap();
        let second = answer(&mut reader, "/data.json", HOST, Some(&tag));
        assert_eq!(second.status, 200);
        let data: serde_json::Value = serde_json::from_slice(&second.body).unwrap();
        assert_eq!(data["series"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_campaign_that_is_gone_is_an_answer_and_no_end() {
        let mut reader = Reader::new(std::path::Path::new("/nonexistent"));
        let answer = answer(&mut reader, "/data.json", HOST, None);
        assert_eq!(answer.status, 500);
        assert!(String::from_utf8(answer.body).unwrap().contains("/nonexistent/campaign.json"));
    }

    #[test]
    fn only_addresses_are_served_and_only_what_there_is() {
        for good in ["127.0.0.1", "127.0.0.1:80", "localhost:8080", "[::1]:8080", "[::1]"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "rebound.example", "rebound.example:8080", "127.0.0.1.example", "[::1"] {
            assert!(!is_address(bad), "{bad}");
        }
        let dir = campaign();
        let mut reader = Reader::new(dir.path());
        let mut status = |path, host| answer(&mut reader, path, host, None).status;
        assert_eq!(status("/", Some("rebound.example")), 403);
        assert_eq!(status("/", None), 403);
        assert_eq!(status("/../campaign.json", HOST), 404);
        assert_eq!(status("/", HOST), 200);
    }
}
