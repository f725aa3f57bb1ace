//! Keys that a client must have.

use axum::http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::fault::{Fault, Kind};

/// The keys, as digests: comparing those takes the same time whatever the key and its length.
#[derive(Debug)]
pub(crate) struct Keys(Vec<[u8; 32]>);

impl Keys {
    pub(crate) fn new(keys: &[String]) -> Self {
        // As of what a client sends, spaces around a key are not part of it.
        Keys(keys.iter().map(|key| Sha256::digest(key.trim()).into()).collect())
    }

    /// Checks the value of an `Authorization` header.
    pub(crate) fn check(&self, authorization: Option<&[u8]>) -> Result<(), Fault> {
        if self.0.is_empty() {
            return Ok(());
        }
        let given = authorization.and_then(|value| {
            let (scheme, key) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key.trim_ascii())
        });
        let Some(given) = given else {
            return Err(Fault::new(
                Kind::Unauthorized,
                "expected a key in the header `Authorization: Bearer KEY`, found none",
            ));
        };
        let given: [u8; 32] = Sha256::digest(given).into();
        // Every key is compared, so that the time does not tell which one is nearly right.
        let matches = self.0.iter().fold(0, |found, key| found | key.ct_eq(&given).unwrap_u8());
        if matches == 1 { Ok(()) } else { Err(Fault::new(Kind::Unauthorized, "the key is wrong")) }
    }

    /// Checks a request's headers.
    pub(crate) fn check_headers(&self, headers: &HeaderMap) -> Result<(), Fault> {
        self.check(headers.get("authorization").map(|value| value.as_bytes()))
    }
}

/// Whether a request is open to everybody: what load balancers ask for, and the page, which has no data in it. A POST to the
/// page's path is for a model.
pub(crate) fn is_open(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && matches!(path, "/" | "/health" | "/v2/health/live" | "/v2/health/ready")
}
