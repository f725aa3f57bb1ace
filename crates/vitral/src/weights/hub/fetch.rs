//! Requests to a hub, and downloads from it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;

use super::cache::Cache;
use super::error::HubError;
use super::name::HubName;
use super::place::Hub;
use crate::atomic;

/// Redirects within the hub that are followed.
const MOST_REDIRECTS: usize = 5;

/// The largest answer accepted as a description, which is always small.
const LONGEST_LIST: u64 = 16 << 20;

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes downloaded.
    pub done: u64,
    /// Total bytes, if known.
    pub total: Option<u64>,
}

pub(super) struct Fetcher<'a> {
    hub: &'a Hub,
    agent: ureq::Agent,
}

/// A revision's commit and files.
pub(super) struct Listed {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What a hub says about a file before it is downloaded.
struct Promised {
    checksum: String,
    size: Option<u64>,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A hub redirects to paths of its own, which want the token too; those who store large files do not get it.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("vitral/", env!("CARGO_PKG_VERSION")));
        let local = ["http://127.0.0.1", "http://localhost"].iter().any(|host| hub.endpoint.starts_with(host));
        let config = if local { config.proxy(None) } else { config };
        Fetcher { hub, agent: config.build().into() }
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/{rest}", self.hub.endpoint.trim_end_matches('/'))
    }

    /// The commit and the files of a revision.
    pub(super) fn list(&self, name: &HubName) -> Result<Listed, HubError> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = name.revision.replace('/', "%2F");
        let url = self.url(&format!("api/models/{}/revision/{revision}", name.repository()));
        let mut response = self.get(&url, None, true)?;
        let answer = |fault: String| HubError::Answer { url: url.clone(), fault };
        let text = response.body_mut().with_config().limit(LONGEST_LIST).read_to_vec();
        let text = text.map_err(|error| HubError::Connection { url: url.clone(), fault: error.to_string() })?;
        let read: Answer =
            serde_json::from_slice(&text).map_err(|error| answer(format!("not a list of files: {error}")))?;
        if !is_word(&read.sha) {
            return Err(answer(format!("`{}` is not a commit", read.sha.escape_debug())));
        }
        // Paths that leave their folder are never requested.
        let plain = |file: &String| !file.split('/').any(|part| part.is_empty() || part == ".." || part == ".");
        let files = read.siblings.into_iter().map(|sibling| sibling.rfilename).filter(plain).collect();
        Ok(Listed { commit: read.sha, files })
    }

    /// A file of a commit: from the cache, or downloaded into it.
    pub(super) fn file(
        &self,
        name: &HubName,
        commit: &str,
        file: &str,
        cache: &Cache,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let kept = cache.folder(commit).join(file);
        if kept.exists() {
            return Ok(kept);
        }
        let url = self.url(&format!("{}/resolve/{commit}/{file}", name.repository()));
        let promised = self.promised(&url)?;
        let _lock = cache.lock(&promised.checksum)?;
        let blob = cache.blob(&promised.checksum);
        if !blob.exists() {
            let partial = cache.blob(&format!("{}.incomplete", promised.checksum));
            self.fetch(&url, &partial, file, &promised, progress)?;
            verify(&partial, file, name, &promised)?;
            atomic::settle(&partial, &blob).map_err(HubError::io(&blob))?;
        }
        cache.link(commit, file, &promised.checksum)
    }

    /// Requests a file's checksum and size. Large files answer with a redirect to another host that includes them; redirects
    /// within the hub, as of a model that was renamed and of some mirrors, are followed.
    fn promised(&self, url: &str) -> Result<Promised, HubError> {
        let mut response = self.head(url)?;
        let mut at = url.to_owned();
        for _ in 0..MOST_REDIRECTS {
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            let within = location.filter(|location| location.starts_with('/') && !location.starts_with("//"));
            let redirects = response.status().is_redirection() && !response.headers().contains_key("x-linked-etag");
            let Some(within) = within.filter(|_| redirects) else { break };
            at = format!("{}{within}", origin(&at));
            response = self.head(&at)?;
        }
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let checksum = header("x-linked-etag").or_else(|| header("etag"));
        let checksum = checksum.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let checksum = checksum.filter(|checksum| is_word(checksum));
        let fault = "no usable `ETag`, which is the file's name in the cache".to_owned();
        let checksum = checksum.ok_or_else(|| HubError::Answer { url: url.to_owned(), fault })?;
        let redirected = response.status().is_redirection();
        let plain = || header("content-length").filter(|_| !redirected);
        let size = header("x-linked-size").or_else(plain).and_then(|size| size.parse().ok());
        Ok(Promised { checksum, size })
    }

    /// The headers of a file, or of a redirect to it.
    fn head(&self, url: &str) -> Result<Response<Body>, HubError> {
        let request = self.agent.head(url).config().max_redirects(0).max_redirects_will_error(false).build();
        let request = match &self.hub.token {
            Some(token) => request.header("Authorization", &format!("Bearer {token}")),
            None => request,
        };
        let response = request.header("Accept-Encoding", "identity").call();
        let response = response.map_err(|error| connection(url, &error))?;
        self.refuse(url, response.status().as_u16())?;
        Ok(response)
    }

    /// Downloads a file, resuming an interrupted download.
    fn fetch(
        &self,
        url: &str,
        partial: &Path,
        file: &str,
        promised: &Promised,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), HubError> {
        let mut done = std::fs::metadata(partial).map_or(0, |metadata| metadata.len());
        if promised.size.is_some_and(|size| done > size) {
            done = 0;
        }
        if done > 0 && promised.size == Some(done) {
            return Ok(());
        }
        let response = self.get(url, (done > 0).then_some(done), promised.size.is_none())?;
        let start = format!("bytes {done}-");
        let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
        let resumes = response.status().as_u16() == 206 && range.is_some_and(|range| range.starts_with(&start));
        let mut options = OpenOptions::new();
        let mut out = if resumes {
            options.append(true).open(partial)
        } else {
            done = 0;
            options.write(true).create(true).truncate(true).open(partial)
        }
        .map_err(HubError::io(partial))?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            progress(Progress { file, done, total: promised.size });
            let count = body
                .read(&mut buffer)
                .map_err(|error| HubError::Connection { url: url.to_owned(), fault: error.to_string() })?;
            if count == 0 {
                break;
            }
            out.write_all(&buffer[..count]).map_err(HubError::io(partial))?;
            done += count as u64;
            if let Some(size) = promised.size.filter(|&size| done > size) {
                let fault = format!("more than the {size} bytes that were announced");
                return Err(HubError::Answer { url: url.to_owned(), fault });
            }
        }
        if let Some(size) = promised.size.filter(|&size| done < size) {
            let fault = format!("stopped after {done} of {size} bytes; run it again to resume");
            return Err(HubError::Connection { url: url.to_owned(), fault });
        }
        out.sync_all().map_err(HubError::io(partial))
    }

    fn get(&self, url: &str, from: Option<u64>, whole: bool) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if !whole {
            request = request.header("Accept-Encoding", "identity");
        }
        let response = request.call().map_err(|error| connection(url, &error))?;
        let status = response.status().as_u16();
        if status == 416 && from.is_some() {
            return self.get(url, None, whole);
        }
        self.refuse(url, status)?;
        Ok(response)
    }

    fn refuse(&self, url: &str, status: u16) -> Result<(), HubError> {
        let meaning = match (status, self.hub.token.is_some()) {
            (200..=399, _) => return Ok(()),
            (401, false) => "no such model, or one that requires a token; check the name, and set HF_TOKEN",
            (401, true) => {
                "no such model, or one that the token that was sent does not open; check the name, and HF_TOKEN or the file of \
                 `hf auth login`"
            }
            (403, false) => "the model requires a token; set HF_TOKEN",
            (403, true) => "the token that was sent may not read this model; request access on its page",
            (404, _) => "no such model, revision or file; check the name",
            (429, _) => "too many requests; wait a little",
            (500.., _) => "the hub has a problem; try again later",
            _ => "unexpected; check the name and HF_ENDPOINT",
        };
        Err(HubError::Status { url: url.to_owned(), status, meaning })
    }
}

fn connection(url: &str, error: &ureq::Error) -> HubError {
    HubError::Connection { url: url.to_owned(), fault: error.to_string() }
}

/// `https://host` of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    &url[..url[host..].find('/').map_or(url.len(), |at| host + at)]
}

/// Whether a checksum or commit is safe as a file's name.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Compares a download with what the hub announced. A bad download is removed, so that it is not resumed.
fn verify(partial: &Path, file: &str, name: &HubName, promised: &Promised) -> Result<(), HubError> {
    // Large files use SHA-256; small ones use git's own checksum, which includes a header that is not sent.
    if promised.checksum.len() != 64 || !promised.checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut content = File::open(partial).map_err(HubError::io(partial))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let count = content.read(&mut buffer).map_err(HubError::io(partial))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == promised.checksum.to_lowercase() {
        return Ok(());
    }
    let _ = std::fs::remove_file(partial);
    let expected = format!("SHA-256 {}", promised.checksum);
    Err(HubError::Checksum { file: file.to_owned(), name: name.to_string(), expected, found })
}
