//! A turn at one endpoint: some deliveries side by side, their ends and the next claim in one transaction.

use std::{sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    after,
    claim::{Target, Try, What, claim, find_target},
    secret,
    settle::{Ended, set_rest, settle},
};
use crate::{
    app::App,
    egress::Failure,
    error::{Error, Result},
    kill,
};

/// Calls to one endpoint at one time, on each node.
const AT_ONCE: usize = 8;
/// Deliveries claimed at one time; those that are not on their way follow at once.
const CLAIMED: usize = 4 * AT_ONCE;
/// How long a turn begins new ones before the endpoint is looked at afresh.
const TURN: Duration = Duration::from_secs(10);
/// Ends that share a commit are waited for no longer than this.
const GATHER: Duration = Duration::from_millis(4);
/// Failures in a row after which an endpoint rests.
const BREAKS: usize = 8;

/// Tells what is due at an endpoint, for a while; gives the number of tries. Call it again at once while it made any.
pub(super) async fn turn(app: &App, endpoint_id: &str, stop: &CancellationToken) -> Result<usize> {
    let mut turn = Turn { app, endpoint_id, target: None, is_over: false, failed: 0 };
    let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    let (ends, mut ended, mut made) = (Instant::now() + TURN, Vec::new(), 0);
    loop {
        let goes_on = !turn.is_over && !stop.is_cancelled() && Instant::now() < ends;
        let free = if goes_on { turn.free(running.len()) } else { 0 };
        let (url, secrets, claimed) = turn.settle_and_claim(&ended, free).await?;
        ended.clear();
        if running.is_empty() && claimed.is_empty() {
            return Ok(made);
        }
        made += claimed.len();
        for tried in claimed {
            running.spawn(carry_out(app.clone(), url.clone(), secrets.clone(), tried, places.clone()));
        }
        for one in gather(&mut running).await {
            ended.push(one.map_err(Error::internal)?);
        }
    }
}

/// Waits for an end, and a moment for others.
async fn gather(running: &mut JoinSet<Ended>) -> Vec<Result<Ended, JoinError>> {
    let mut ended: Vec<_> = running.join_next().await.into_iter().collect();
    let until = Instant::now() + GATHER;
    while ended.len() < CLAIMED
        && let Ok(Some(next)) = time::timeout_at(until, running.join_next()).await
    {
        ended.push(next);
    }
    ended
}

struct Turn<'a> {
    app: &'a App,
    endpoint_id: &'a str,
    /// As it was at the last claim.
    target: Option<Target>,
    is_over: bool,
    /// In a row.
    failed: usize,
}

type Claimed = (Option<Url>, Arc<[SecretString]>, Vec<Try>);

impl Turn<'_> {
    /// How many may be claimed now: few large claims in place of many small ones, and one after a rest.
    fn free(&self, running: usize) -> usize {
        let is_unwell = self.target.as_ref().is_some_and(|target| target.failures > 0);
        let most = if is_unwell { 1 } else { CLAIMED };
        let free = most.saturating_sub(running);
        if free < most.div_ceil(2) { 0 } else { free }
    }

    async fn settle_and_claim(&mut self, ended: &[Ended], free: usize) -> Result<Claimed> {
        let mut claimed: Claimed = (None, Arc::new([]), Vec::new());
        if ended.is_empty() && free == 0 {
            return Ok(claimed);
        }
        let mut tx = self.app.db.begin_work().await?;
        if let Some(target) = self.target.as_ref().filter(|_| !ended.is_empty()) {
            self.is_over |= settle(&mut tx, self.app, self.endpoint_id, target, ended).await?;
            self.failed = failed_in_row(self.failed, ended);
            if !self.is_over && (self.failed >= BREAKS || (self.failed > 0 && target.failures > 0)) {
                let wait = after::rest(target.failures, self.app.jitter());
                set_rest(&mut tx, self.endpoint_id, self.app.now().plus(wait), target.failures + 1).await?;
                self.is_over = true;
            }
        }
        if free > 0 && !self.is_over {
            self.target = find_target(&mut tx, self.app, self.endpoint_id).await?;
            match &self.target {
                Some(target) => {
                    let most = i64::try_from(self.free(0).min(free)).unwrap_or(1);
                    claimed.0 = Some(target.url.clone());
                    claimed.1 = target.secrets.clone().into();
                    claimed.2 = claim(&mut tx, self.app, self.endpoint_id, most).await?;
                }
                // Deleted, disabled or resting by now.
                None => self.is_over = true,
            }
        }
        tx.commit().await?;
        if !claimed.2.is_empty() {
            kill::point("hook.claimed");
        }
        if !ended.is_empty() {
            kill::point("hook.recorded");
        }
        Ok(claimed)
    }
}

/// Failures in a row, in the order of their ends.
fn failed_in_row(before: usize, ended: &[Ended]) -> usize {
    ended.iter().fold(before, |count, one| match &one.result {
        Some(Ok(answer)) if (200..300).contains(&answer.status) => 0,
        Some(_) => count + 1,
        None => count,
    })
}

/// One try, once there is a place for it.
async fn carry_out(
    app: App,
    url: Option<Url>,
    secrets: Arc<[SecretString]>,
    tried: Try,
    places: Arc<Semaphore>,
) -> Ended {
    let (Some(url), What::Body { bytes, line_signature }) = (url, &tried.what) else {
        return Ended { tried, result: None };
    };
    let _place = places.acquire().await;
    let headers = headers(&app, &secrets, &tried, bytes, line_signature.as_deref());
    let result = match headers {
        Ok(headers) => {
            kill::point("hook.writing");
            let result = app.egress.post(&url, headers, bytes.clone()).await;
            kill::point("hook.answered");
            result
        }
        Err(error) => Err(Failure::Broken(format!("it cannot be signed: {error}"))),
    };
    Ended { tried, result: Some(result) }
}

fn headers(
    app: &App,
    secrets: &[SecretString],
    tried: &Try,
    body: &[u8],
    line_signature: Option<&str>,
) -> Result<HeaderMap> {
    let mut headers = secret::headers(secrets, &tried.event_id, app.now(), body)?;
    if let Some(signature) = line_signature {
        let value = HeaderValue::from_str(signature).map_err(Error::internal)?;
        headers.insert(HeaderName::from_static("x-line-signature"), value);
    }
    Ok(headers)
}
