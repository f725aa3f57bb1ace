//! What happened, for Prometheus and for the protocol's statistics.
//!
//! Our own names begin with `vitral_`. The same facts are there under the names of Triton (`nv_inference_…`) and KServe
//! (`request_…_seconds`), for which people have dashboards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// The version of every model: a server has one of each.
pub(crate) const VERSION: &str = "1";

/// Seconds, from a small model on a GPU to a queue that is nearly full.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const IMAGES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// All metrics of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    families: Families,
}

#[derive(Debug)]
struct Families {
    images: IntCounterVec,
    batches: HistogramVec,
    queue_seconds: HistogramVec,
    decode_seconds: HistogramVec,
    forward_seconds: HistogramVec,
    waiting: IntGaugeVec,
    triton: BTreeMap<&'static str, IntCounterVec>,
    failures: IntCounterVec,
    pending: IntGaugeVec,
    kserve: BTreeMap<&'static str, HistogramVec>,
}

/// Triton's counters.
const TRITON: [(&str, &str); 8] = [
    ("nv_inference_request_success", "Inference requests that were answered"),
    ("nv_inference_count", "Images that were computed"),
    ("nv_inference_exec_count", "Batches that were computed"),
    ("nv_inference_request_duration_us", "Time from request to answer, in microseconds, summed"),
    ("nv_inference_queue_duration_us", "Time in the queue, in microseconds, summed over images"),
    ("nv_inference_compute_input_duration_us", "Time of decoding and preprocessing, in microseconds, summed"),
    ("nv_inference_compute_infer_duration_us", "Time of the model, in microseconds, summed over batches"),
    ("nv_inference_compute_output_duration_us", "Time of making answers, in microseconds, summed over batches"),
];

/// KServe's histograms.
const KSERVE: [(&str, &str); 4] = [
    ("request_preprocess_seconds", "Time of decoding and preprocessing an image, in seconds"),
    ("request_predict_seconds", "Time of the model for a batch, in seconds"),
    ("request_postprocess_seconds", "Time of making the answers of a batch, in seconds"),
    ("request_explain_seconds", "Time of a map, in seconds"),
];

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl Metrics {
    /// Metrics without any events.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter =
            |name, help, labels: &[&str]| registered(&registry, IntCounterVec::new(Opts::new(name, help), labels));
        let gauge =
            |name, help, labels: &[&str]| registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels));
        let histogram = |name, help, buckets: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            registered(&registry, HistogramVec::new(options, labels))
        };
        let triton: &[&str] = &["model", "version"];
        let families = Families {
            images: counter("vitral_images_total", "Images that were computed", &["model"])?,
            batches: histogram("vitral_batch_images", "Images in a batch", &IMAGES, &["model"])?,
            queue_seconds: histogram(
                "vitral_queue_seconds",
                "Time of an image in the queue, without decoding, in seconds",
                &SECONDS,
                &["model"],
            )?,
            decode_seconds: histogram(
                "vitral_decode_seconds",
                "Time of decoding and preprocessing an image, in seconds",
                &SECONDS,
                &["model"],
            )?,
            forward_seconds: histogram(
                "vitral_forward_seconds",
                "Time of the model for a batch, in seconds",
                &SECONDS,
                &["model"],
            )?,
            waiting: gauge("vitral_queue_images", "Images that wait, decoded or not", &["model"])?,
            triton: TRITON
                .iter()
                .map(|&(name, help)| Ok((name, counter(name, help, triton)?)))
                .collect::<prometheus::Result<_>>()?,
            failures: counter(
                "nv_inference_request_failure",
                "Inference requests that were refused or failed",
                &["model", "version", "reason"],
            )?,
            pending: gauge("nv_inference_pending_request_count", "Images that wait", triton)?,
            kserve: KSERVE
                .iter()
                .map(|&(name, help)| Ok((name, histogram(name, help, &SECONDS, &["model_name"])?)))
                .collect::<prometheus::Result<_>>()?,
        };
        let requests = counter("vitral_requests_total", "Requests, by route and status", &["route", "status"])?;
        let request_seconds =
            histogram("vitral_request_seconds", "Time from a request's header to its answer", &SECONDS, &["route"])?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(crate::process::Process::new()?))?;
        Ok(Metrics { registry, requests, request_seconds, families })
    }

    /// Counts a request.
    pub(crate) fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// The metrics of a model.
    pub(crate) fn model(&self, name: &str) -> ModelMetrics {
        let of = &self.families;
        ModelMetrics {
            name: name.to_owned(),
            images: of.images.with_label_values(&[name]),
            batches: of.batches.with_label_values(&[name]),
            queue_seconds: of.queue_seconds.with_label_values(&[name]),
            decode_seconds: of.decode_seconds.with_label_values(&[name]),
            forward_seconds: of.forward_seconds.with_label_values(&[name]),
            waiting: of.waiting.with_label_values(&[name]),
            triton: of.triton.iter().map(|(&key, all)| (key, all.with_label_values(&[name, VERSION]))).collect(),
            failures: of.failures.clone(),
            pending: of.pending.with_label_values(&[name, VERSION]),
            kserve: of.kserve.iter().map(|(&key, all)| (key, all.with_label_values(&[name]))).collect(),
            statistics: Mutex::default(),
            last: AtomicU64::new(0),
        }
    }

    /// All metrics in Prometheus's text format.
    pub(crate) fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// How often something happened, and how long it took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) nanoseconds: u64,
}

impl Total {
    fn add(&mut self, count: usize, time: Duration) {
        self.count += count as u64;
        self.nanoseconds += time.as_nanos() as u64;
    }
}

/// Times of the batches of one size.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchTotals {
    pub(crate) input: Total,
    pub(crate) infer: Total,
    pub(crate) output: Total,
}

/// What the protocol's statistics say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) images: u64,
    pub(crate) batches: u64,
    pub(crate) success: Total,
    pub(crate) fail: Total,
    pub(crate) queue: Total,
    pub(crate) input: Total,
    pub(crate) infer: Total,
    pub(crate) output: Total,
    /// By batch size.
    pub(crate) by_size: BTreeMap<u64, BatchTotals>,
}

/// How long the parts of a batch took.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchTimes {
    pub(crate) images: usize,
    /// Summed over images.
    pub(crate) decoding: Duration,
    /// Of each image.
    pub(crate) queued: Vec<Duration>,
    pub(crate) computing: Duration,
    pub(crate) splitting: Duration,
}

/// The metrics of one model.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    name: String,
    images: IntCounter,
    batches: Histogram,
    queue_seconds: Histogram,
    decode_seconds: Histogram,
    forward_seconds: Histogram,
    waiting: IntGauge,
    triton: BTreeMap<&'static str, IntCounter>,
    failures: IntCounterVec,
    pending: IntGauge,
    kserve: BTreeMap<&'static str, Histogram>,
    statistics: Mutex<Statistics>,
    /// When an image was last computed, in milliseconds since 1970.
    last: AtomicU64,
}

impl ModelMetrics {
    fn count(&self, name: &'static str, by: u64) {
        if let Some(counter) = self.triton.get(name) {
            counter.inc_by(by);
        }
    }

    fn observe(&self, name: &'static str, time: Duration) {
        if let Some(histogram) = self.kserve.get(name) {
            histogram.observe(time.as_secs_f64());
        }
    }

    fn change(&self, change: impl FnOnce(&mut Statistics)) {
        change(&mut self.statistics.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a decoded image.
    pub(crate) fn decoded(&self, took: Duration) {
        self.decode_seconds.observe(took.as_secs_f64());
        self.observe("request_preprocess_seconds", took);
    }

    /// Counts a batch.
    pub(crate) fn computed(&self, times: &BatchTimes, explained: bool) {
        let images = times.images as u64;
        let queued: Duration = times.queued.iter().sum();
        let micros = |time: Duration| time.as_micros() as u64;
        self.images.inc_by(images);
        self.batches.observe(times.images as f64);
        times.queued.iter().for_each(|queued| self.queue_seconds.observe(queued.as_secs_f64()));
        self.forward_seconds.observe(times.computing.as_secs_f64());
        self.observe(if explained { "request_explain_seconds" } else { "request_predict_seconds" }, times.computing);
        self.observe("request_postprocess_seconds", times.splitting);
        self.count("nv_inference_count", images);
        self.count("nv_inference_exec_count", 1);
        self.count("nv_inference_queue_duration_us", micros(queued));
        self.count("nv_inference_compute_input_duration_us", micros(times.decoding));
        self.count("nv_inference_compute_infer_duration_us", micros(times.computing));
        self.count("nv_inference_compute_output_duration_us", micros(times.splitting));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(now.as_millis() as u64, Relaxed);
        self.change(|statistics| {
            statistics.images += images;
            statistics.batches += 1;
            statistics.queue.add(times.images, queued);
            statistics.input.add(times.images, times.decoding);
            statistics.infer.add(times.images, times.computing);
            statistics.output.add(times.images, times.splitting);
            let of_size = statistics.by_size.entry(images).or_default();
            of_size.input.add(1, times.decoding);
            of_size.infer.add(1, times.computing);
            of_size.output.add(1, times.splitting);
        });
    }

    /// Counts the end of a request; `reason` is why it failed.
    pub(crate) fn finished(&self, took: Duration, reason: Option<&'static str>) {
        match reason {
            None => {
                self.count("nv_inference_request_success", 1);
                self.count("nv_inference_request_duration_us", took.as_micros() as u64);
                self.change(|statistics| statistics.success.add(1, took));
            }
            Some(reason) => {
                self.failures.with_label_values(&[&self.name, VERSION, reason]).inc();
                self.change(|statistics| statistics.fail.add(1, took));
            }
        }
    }

    /// Sets how many images wait.
    pub(crate) fn waiting(&self, images: usize) {
        self.waiting.set(images as i64);
        self.pending.set(images as i64);
    }

    /// What has happened so far, and when an image was last computed, in milliseconds since 1970.
    pub(crate) fn statistics(&self) -> (Statistics, u64) {
        (self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone(), self.last.load(Relaxed))
    }
}
