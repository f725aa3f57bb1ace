//! The server's own paths: labels, vectors and maps.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;
use vitral::config::Problem;
use vitral::explain::{Method, paint};
use vitral::labels::{Ranked, top};
use vitral::nested::Nested;

use super::options::{ClassifyOptions, EmbedOptions, ExplainOptions, MapFormat, Pool, pixel, timeout};
use super::upload::{self, Upload, Uploads};
use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::job::{Answer, Explained, Input, Row, Task, Wanted};
use crate::runner::Runner;
use crate::statuses::VitralFaults;
use crate::trace::Served;
use crate::wire::encoded::base64;
use crate::worker::task_for;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/classify", post(classify))
        .route("/v1/embed", post(embed))
        .route("/v1/explain", post(explain))
}

/// Images in JSON, with the options of the path beside them.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what `upload` reads")]
pub(crate) struct ImagesBody {
    /// One image, in base64 or as a data URI
    image: Option<String>,
    /// Several images
    images: Option<Vec<String>>,
}

/// Labels of all images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Classified {
    model: String,
    /// In the order of the images.
    results: Vec<ImageLabels>,
}

/// Labels of one image, with the fields and the bits of `vitral classify --json`.
#[derive(Debug, Serialize, ToSchema)]
struct ImageLabels {
    /// The file's name, if the form had one; else null.
    image: Option<String>,
    /// What the logits say: `single-label`, `multi-label` or `regression`.
    problem: &'static str,
    /// What the products were computed in.
    precision: &'static str,
    labels: Vec<Label>,
}

/// One label.
#[derive(Debug, Serialize, ToSchema)]
struct Label {
    class: usize,
    label: String,
    /// Absent in a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    logit: f32,
}

impl Label {
    fn of(ranked: Ranked, problem: Problem) -> Self {
        let probability = (problem != Problem::Regression).then_some(ranked.probability);
        Label { class: ranked.class, label: ranked.label, probability, logit: ranked.logit }
    }
}

fn encoded(images: Vec<Upload>) -> (Vec<Option<String>>, Vec<Input>) {
    images.into_iter().map(|image| (image.name, Input::Encoded(image.bytes))).unzip()
}

fn served(runner: &Runner, images: usize, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.extensions_mut().insert(Served { model: runner.name().to_owned(), images });
    response
}

/// Labels of images
///
/// The body is an image, a form with one or several, or JSON. Answers have the same bits for any number of images and
/// whatever else the server computes.
#[utoipa::path(post, path = "/v1/classify", tag = "Vitral", params(ClassifyOptions),
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/form-data"), (ImagesBody = "application/json"))),
    responses((status = 200, description = "The best labels of each image", body = Classified), VitralFaults))]
pub(crate) async fn classify(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    app.check_open()?;
    let Uploads { images, options, .. } = &mut upload::read::<ClassifyOptions>(&app, request).await?;
    let runner = app.model(options.model.as_deref())?;
    let model = runner.model();
    runner.check_classifies()?;
    let count = match options.top {
        Some(0) => return Err(Fault::bad("expected a `top` of at least 1, found 0")),
        top => top.unwrap_or(5) as usize,
    };
    let (names, inputs) = encoded(std::mem::take(images));
    let answers = runner.run(inputs, Task::Outputs, timeout(options.timeout)?).await?;
    let problem = model.vit().config().problem;
    let result = |(image, answer)| {
        let Answer::Outputs { logits: Some(logits), .. } = answer else { return Err(mixed()) };
        let ranked = top(&logits.values, count, model.labels(), problem);
        let labels = ranked.into_iter().map(|ranked| Label::of(ranked, problem)).collect();
        Ok(ImageLabels { image, problem: problem.name(), precision: model.precision().name(), labels })
    };
    let results = names.into_iter().zip(answers).map(result).collect::<Result<Vec<_>, _>>()?;
    let body = Classified { model: runner.name().to_owned(), results };
    Ok(served(&runner, body.results.len(), Json(&body)))
}

fn mixed() -> Fault {
    Fault::new(Kind::Internal, "the model gave another answer than was asked for; please report it")
}

/// Vectors of all images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embedded {
    model: String,
    /// What the products were computed in.
    precision: &'static str,
    pool: Pool,
    /// In the order of the images.
    results: Vec<ImageFeatures>,
}

/// The vector of one image, or one for each token.
#[derive(Debug, Serialize, ToSchema)]
struct ImageFeatures {
    /// The file's name, if the form had one; else null.
    image: Option<String>,
    #[schema(value_type = Vec<serde_json::Value>)]
    features: Features,
}

#[derive(Debug)]
struct Features(Row);

impl Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Nested { shape: &self.0.shape, values: &self.0.values }.serialize(serializer)
    }
}

/// The features of an answer, as `vitral embed` gives them.
pub(crate) fn features(runner: &Runner, answer: Answer) -> Result<Row, Fault> {
    match answer {
        Answer::Outputs { logits: Some(logits), .. } if runner.projects() => Ok(logits),
        Answer::Outputs { features, .. } | Answer::Features(features) => Ok(features),
        Answer::Explained(_) => Err(mixed()),
    }
}

/// Vectors of images
#[utoipa::path(post, path = "/v1/embed", tag = "Vitral", params(EmbedOptions),
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/form-data"), (ImagesBody = "application/json"))),
    responses((status = 200, description = "The features of each image", body = Embedded), VitralFaults))]
pub(crate) async fn embed(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    app.check_open()?;
    let Uploads { images, options, .. } = &mut upload::read::<EmbedOptions>(&app, request).await?;
    let runner = app.model(options.model.as_deref())?;
    let pool = options.pool;
    if matches!(pool, Pool::Class | Pool::ClassAndMean) && !runner.model().vit().config().class_token {
        return Err(vitral::Error::NoClassToken { name: runner.name().to_owned() }.into());
    }
    let (names, inputs) = encoded(std::mem::take(images));
    let answers = runner.run(inputs, task_for(pool.kind()), timeout(options.timeout)?).await?;
    let result = |(image, answer)| Ok(ImageFeatures { image, features: Features(features(&runner, answer)?) });
    let results = names.into_iter().zip(answers).map(result).collect::<Result<Vec<_>, Fault>>()?;
    let precision = runner.model().precision().name();
    let body = Embedded { model: runner.name().to_owned(), precision, pool, results };
    Ok(served(&runner, body.results.len(), Json(&body)))
}

/// A map of one image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageMap {
    model: String,
    /// The method's name, title, paper and meaning.
    method: &'static str,
    title: &'static str,
    paper: &'static str,
    meaning: &'static str,
    /// What is explained, in words.
    target: String,
    /// The class that is explained, if it is one.
    class: Option<usize>,
    label: Option<String>,
    /// Rows and columns of the map.
    grid: [usize; 2],
    /// Row by row.
    values: Vec<f32>,
    /// The values that are drawn in the darkest and in the brightest color.
    range: [f32; 2],
    /// The image as the model sees it, as a PNG in a data URI.
    image: String,
}

/// Opacity of a map, as in `vitral explain`.
const OPACITY: f32 = 0.65;
/// Passes of the methods that take many, if the request does not say.
const PASSES: usize = 200;
/// Passes that a request may ask for.
const MAX_PASSES: usize = 2000;

/// A map of what a model looks at in an image
///
/// As PNG over the image, or as values. `rise`, `occlusion`, `integrated-gradients` and `smoothgrad` run the model many
/// times.
#[utoipa::path(post, path = "/v1/explain", tag = "Vitral", params(ExplainOptions),
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/form-data"), (ImagesBody = "application/json"))),
    responses((status = 200, description = "The map", content((Vec<u8> = "image/png"), (ImageMap = "application/json"))), VitralFaults))]
pub(crate) async fn explain(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    app.check_open()?;
    let Uploads { images, options, .. } = &mut upload::read::<ExplainOptions>(&app, request).await?;
    let runner = app.model(options.model.as_deref())?;
    if images.len() != 1 {
        return Err(Fault::bad(format!("expected one image, found {}; send one request for each", images.len())));
    }
    let opacity = options.opacity.unwrap_or(OPACITY);
    if !(0.0..=1.0).contains(&opacity) {
        return Err(Fault::bad(format!("expected an `opacity` from 0 to 1, found {opacity}")));
    }
    let wanted = wanted(&runner, options)?;
    let method = wanted.method;
    let (_, inputs) = encoded(std::mem::take(images));
    let mut answers = runner.run(inputs, Task::Explain(wanted), timeout(options.timeout)?).await?;
    let Some(Answer::Explained(explained)) = answers.pop() else { return Err(mixed()) };
    let body = match options.format {
        MapFormat::Json => Json(map(&runner, method, *explained)?).into_response(),
        MapFormat::Png => {
            let png = paint::png(&paint::overlay(&explained.shown, &explained.map, opacity)?)?;
            ([(header::CONTENT_TYPE, HeaderValue::from_static("image/png"))], png).into_response()
        }
    };
    Ok(served(&runner, 1, body))
}

/// The map that a request asks for, or one that suits the model.
fn wanted(runner: &Runner, options: &ExplainOptions) -> Result<Wanted, Fault> {
    let model = runner.model();
    let method = match &options.method {
        Some(name) => Method::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
            Fault::bad(format!("expected a `method` among `{}`, found `{name}`", names.join("`, `")))
        })?,
        None if model.vit().config().depth == 0 => Method::GradCam,
        None => Method::Attention,
    };
    if options.passes.is_some_and(|passes| !(1..=MAX_PASSES).contains(&passes)) {
        return Err(Fault::bad(format!("expected `passes` from 1 to {MAX_PASSES}")));
    }
    let passes = options.passes.or((method == Method::Rise).then_some(PASSES));
    let at = options.at.as_deref().map(pixel).transpose()?;
    let &ExplainOptions { layer, head, patch, .. } = options;
    if at.is_some() && patch.is_some() {
        return Err(Fault::bad("expected `at` or `patch`, found both"));
    }
    Ok(Wanted { method, class: options.class.clone(), layer, head, at, patch, passes })
}

fn map(runner: &Runner, method: Method, explained: Explained) -> Result<ImageMap, Fault> {
    let about = method.about();
    let png = paint::png(&explained.shown)?;
    let (low, high) = paint::range(&explained.map);
    Ok(ImageMap {
        model: runner.name().to_owned(),
        method: about.name,
        title: about.title,
        paper: about.paper,
        meaning: about.meaning,
        target: explained.target,
        class: explained.class,
        label: explained.class.map(|class| runner.model().labels().name(class)),
        grid: [explained.map.size.height, explained.map.size.width],
        values: explained.map.values,
        range: [low, high],
        image: format!("data:image/png;base64,{}", base64(&png)),
    })
}
