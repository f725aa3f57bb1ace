//! Connections: accepting them, cutting off slow ones, and ending them without losing an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::{FutureExt, stream};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::app::App;
use crate::connection::Connection;
use crate::error::ServeError;
use crate::oip::admission::AdmissionLayer;
use crate::oip::grpc::Service;

/// How long connections are still taken after the server has begun to end: requests that are on their way get an answer,
/// and those who balance load have time to notice.
const LINGER: Duration = Duration::from_millis(500);
/// How long a connection that came last has to send its request before silent connections are closed.
const SETTLING: Duration = Duration::from_millis(250);
/// How long to wait when the system has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests of one gRPC connection at the same time.
const STREAMS: u32 = 128;
/// How often a silent gRPC connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Serves HTTP until `ending` says so, and then until every accepted request is answered, or the grace is over.
pub(crate) async fn http(app: Arc<App>, router: Router, listener: TcpListener, mut ending: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(app.options.max_connections.get()));
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    // Also the time after which a connection without requests is closed.
    builder.timer(TokioTimer::new()).header_read_timeout(app.options.header_time);
    let linger = LINGER.min(app.options.grace);
    let over = async move {
        let _ = ending.wait_for(|ending| *ending).await;
        tokio::time::sleep(linger).await;
    };
    tokio::pin!(over);
    let take = |stream: TcpStream, place: Option<OwnedSemaphorePermit>| {
        let service = TowerToHyperService::new(router.clone());
        let stream = Connection::new(stream, app.options.body_time, place);
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(fault) = connection.await {
                tracing::debug!("a connection ended: {fault}");
            }
        });
    };
    loop {
        let place = tokio::select! {
            place = Arc::clone(&connections).acquire_owned() => place,
            () = &mut over => break,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut over => break,
        };
        if let Some(stream) = accepted(stream).await {
            take(stream, Some(place));
        }
    }
    // The system has accepted these already: their clients wait for an answer.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        take(stream, None);
    }
    drop(listener);
    tokio::time::sleep(SETTLING.min(app.options.grace)).await;
    if tokio::time::timeout(app.options.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were not finished in {:?}", app.options.grace);
    }
}

/// An accepted connection; a failure concerns only that connection, or passes.
async fn accepted(stream: std::io::Result<(TcpStream, std::net::SocketAddr)>) -> Option<TcpStream> {
    match stream {
        Ok((stream, _)) => {
            // Answers are written in one go; waiting to fill packets would only delay them.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(fault) => {
            tracing::warn!("cannot accept a connection: {fault}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Serves gRPC, in the same way.
pub(crate) async fn grpc(
    app: Arc<App>,
    listener: TcpListener,
    mut ending: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let grace = app.options.grace;
    let server = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .layer(AdmissionLayer(Arc::clone(&app)))
        .add_service(Service(Arc::clone(&app)).server());
    let mut ended = ending.clone();
    let end = async move {
        let _ = ended.wait_for(|ending| *ending).await;
        tokio::time::sleep(LINGER.min(grace)).await;
    };
    let connections = Arc::new(Semaphore::new(app.options.max_connections.get()));
    let patience = app.options.body_time;
    let incoming = stream::unfold(listener, move |listener| {
        let connections = Arc::clone(&connections);
        async move {
            let place = connections.acquire_owned().await.ok()?;
            loop {
                if let Some(stream) = accepted(listener.accept().await).await {
                    return Some((Ok::<_, std::io::Error>(Connection::new(stream, patience, Some(place))), listener));
                }
            }
        }
    });
    let serving = server.serve_with_incoming_shutdown(incoming, end);
    let limit = async move {
        let _ = ending.wait_for(|ending| *ending).await;
        tokio::time::sleep(LINGER + grace).await;
    };
    tokio::select! {
        served = serving => served.map_err(|fault| ServeError::Serving { detail: fault.to_string() }),
        () = limit => Ok(()),
    }
}
