//! Figures over all images, or of the model alone.

use vitral::explain::faithfulness::Ranking;
use vitral::explain::figures::{self as library, Gathered, Statistics};
use vitral::explain::plot::{self, Labels, Role, Series};
use vitral::explain::report::{Figure as Shown, FigureImage};
use vitral::explain::{InputImage, Method, paint};
use vitral::image::Image;
use vitral::labels::Ranked;
use vitral::{Error, Model, Tensor};

use super::args::Figure;
use super::work::Work;
use crate::output::Named;

/// Number of patch embedding components to show, as in the paper.
const FILTERS: usize = 28;

/// The axis of layers.
const LAYERS: &str = "layer, from the input to the output";

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|x| *x as f32).collect()
}

fn shown(title: &str, image: FigureImage, meaning: &str, paper: &str) -> Shown {
    Shown { title: title.into(), image, meaning: meaning.into(), paper: paper.into() }
}

/// Figures that need no image.
pub(super) fn of_model(work: &mut Work<'_>) -> anyhow::Result<Vec<Named>> {
    let mut numbers = Vec::new();
    if work.figures.contains(&Figure::Positions) {
        let (grid, cosines) = library::positions(work.model)?;
        let image = paint::position_tiles(grid, &cosines)?;
        work.folder.image("positions", &image)?;
        work.report.figures.push(shown(
            "Similarity of position embeddings",
            FigureImage::Pixels(image),
            "One tile per patch, in its place: the cosine similarity between its position embedding and all others. \
             Bright crosses mean that the model learned rows and columns.",
            "Dosovitskiy et al., arXiv:2010.11929, figure 7 (center)",
        ));
        numbers.push(("positions".into(), vec![grid.area(), grid.area()], cosines));
    }
    if work.figures.contains(&Figure::Filters) {
        let filters = library::filters(work.model, FILTERS)?;
        let image = paint::filter_tiles(&filters)?;
        work.folder.image("filters", &image)?;
        work.report.figures.push(shown(
            "Principal components of the patch embedding",
            FigureImage::Pixels(image),
            "The main directions in which the filters of the patch embedding vary, as small images: waves of \
             increasing frequency and colors, a basis for the contents of a patch.",
            "Dosovitskiy et al., arXiv:2010.11929, figure 7 (left)",
        ));
        let shape = vec![filters.shares.len(), filters.patch.height, filters.patch.width, filters.channels];
        numbers.push(("filters".into(), shape, filters.values));
        numbers.push(("filters.shares".into(), vec![filters.shares.len()], narrow(&filters.shares)));
    }
    Ok(numbers)
}

/// Statistics accumulated over images.
pub(super) struct Gathering<'a> {
    statistics: Option<Statistics<'a>>,
    other: Option<&'a Model>,
    waiting: Vec<Tensor>,
    others: Vec<Tensor>,
    batch: usize,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(work: &Work<'a>) -> Self {
        let any = |wanted: &[Figure]| wanted.iter().any(|figure| work.figures.contains(figure));
        let gathered = Gathered {
            distance: any(&[Figure::Distance]),
            entropy: any(&[Figure::Entropy]),
            tokens: any(&[Figure::Rank]) || work.methods.contains(&Method::Norms),
            likeness: any(&[Figure::Cka]),
        };
        // CKA needs batches of at least four images.
        let batch = work.args.inputs.batch().max(if gathered.likeness { 4 } else { 1 });
        let statistics = (gathered != Gathered::default()).then(|| Statistics::new(work.model, work.other, gathered));
        Gathering { statistics, other: work.other, waiting: vec![], others: vec![], batch }
    }

    /// Adds one image.
    pub(super) fn add(&mut self, input: &InputImage, image: &Image) -> anyhow::Result<()> {
        let others = || self.other.map(|other| other.pixels(std::slice::from_ref(image))).transpose();
        let others = if self.statistics.is_some() { others()? } else { None };
        self.add_batch(&input.pixels, others)
    }

    /// Adds images of one size, and the same images as preprocessed for the other model.
    pub(super) fn add_batch(&mut self, pixels: &Tensor, others: Option<Tensor>) -> anyhow::Result<()> {
        if self.statistics.is_none() {
            return Ok(());
        }
        if self.waiting.first().is_some_and(|first| first.shape()[1..] != pixels.shape()[1..]) {
            self.flush()?;
        }
        self.waiting.push(pixels.clone());
        self.others.extend(others);
        let count: usize = self.waiting.iter().map(|pixels| pixels.extent(0)).sum();
        if count >= self.batch { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let (waiting, others) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.others));
        if let Some(statistics) = &mut self.statistics
            && let Some(pixels) = statistics.joined(&waiting)
        {
            statistics.add(&pixels, statistics.joined(&others).as_ref())?;
        }
        Ok(())
    }

    /// Draws the figures and returns their numbers.
    pub(super) fn finish(mut self, work: &mut Work<'_>) -> anyhow::Result<Vec<Named>> {
        self.flush()?;
        let mut numbers = Vec::new();
        let Some(statistics) = self.statistics.filter(|statistics| statistics.images() > 0) else { return Ok(numbers) };
        let layers = work.model.vit().config().depth;
        let over = match statistics.images() {
            1 => "1 image".to_owned(),
            count => format!("{count} images"),
        };
        let add = |work: &mut Work<'_>, name: &str, text: String, about: [&str; 3]| -> anyhow::Result<()> {
            work.folder.plot(name, &text)?;
            let [title, meaning, paper] = about;
            work.report.figures.push(shown(title, FigureImage::Svg(text), meaning, paper));
            Ok(())
        };
        if work.figures.contains(&Figure::Distance) {
            let values = statistics.distances();
            let heads = values.len() / layers;
            let title = format!("Mean attention distance, {over}");
            let text = plot::heads(&Labels { title: &title, x: LAYERS, y: "mean distance in pixels" }, &values, heads)?;
            add(
                work,
                "distance",
                text,
                [
                    &title,
                    "How far each head looks: the distance in pixels between patches, weighted by attention. Each dot \
                     is a head, the line is their mean. Low layers have both local and global heads; high layers are \
                     mostly global.",
                    "Dosovitskiy et al., arXiv:2010.11929, figures 7 (right) and 11",
                ],
            )?;
            numbers.push(("distance".into(), vec![layers, heads], narrow(&values)));
        }
        if work.figures.contains(&Figure::Entropy) {
            let values = statistics.entropies();
            let heads = values.len() / layers;
            let title = format!("Entropy of attention, {over}");
            let text = plot::heads(&Labels { title: &title, x: LAYERS, y: "mean entropy in nats" }, &values, heads)?;
            let meaning = "How evenly each head attends: 0 if every token attends to a single token, high if \
                attention is uniform. A head that drops to 0 in training has collapsed.";
            add(work, "entropy", text, [&title, meaning, "Zhai et al., arXiv:2303.06296"])?;
            numbers.push(("entropy".into(), vec![layers, heads], narrow(&values)));
        }
        if work.figures.contains(&Figure::Rank) {
            let values = statistics.ranks();
            let points = values.iter().enumerate().map(|(layer, value)| (layer as f64, *value)).collect();
            let title = format!("Effective rank of patch tokens, {over}");
            let labels = Labels { title: &title, x: "layers passed", y: "effective rank (directions)" };
            let text = plot::lines(&labels, &[Series { name: "", points, role: Role::Compared }])?;
            let meaning = "How many directions the patch tokens of an image use after each block. A low rank means \
                that the patches have become similar.";
            add(work, "rank", text, [&title, meaning, "Roy & Vetterli 2007; Dong et al., arXiv:2103.03404"])?;
            numbers.push(("rank".into(), vec![values.len()], narrow(&values)));
        }
        for planned in work.maps.clone().into_iter().filter(|planned| planned.method == Method::Norms) {
            let passed = planned.options.layer.map_or(layers, |layer| layer + 1);
            let values = statistics.norms()[passed].clone();
            let title = match passed.checked_sub(1) {
                Some(layer) => format!("Norms of patch tokens after layer {layer}, {over}"),
                None => format!("Norms of patch tokens, {over}"),
            };
            let labels = Labels { title: &title, x: "norm: length of the token", y: "tokens (logarithmic)" };
            let text = plot::histogram(&labels, &values, 48)?;
            let about = Method::Norms.about();
            add(work, &planned.name, text, [&title, about.meaning, about.paper])?;
            numbers.push((planned.name, vec![values.len()], values));
        }
        if work.figures.contains(&Figure::Cka) {
            let values = match statistics.likeness() {
                Ok(values) => values,
                Err(fault) if work.named(Figure::Cka) => return Err(fault.into()),
                Err(fault) => {
                    work.leave_out("cka", &fault);
                    return Ok(numbers);
                }
            };
            let columns = values.len() / (layers + 1);
            let other = self.other.map_or("the same model", Model::name);
            let title = format!("Similarity of layers (CKA), {over}");
            let x = format!("layers passed, {other}");
            let y = format!("layers passed, {}", work.model.name());
            let text = plot::matrix(&Labels { title: &title, x: &x, y: &y }, &values, columns)?;
            let meaning = "How similar the tokens after each block are, up to a rotation: 1 (bright) means \
                equivalent. In ViTs many layers are similar; a sharp border marks where the representation changes.";
            add(
                work,
                "cka",
                text,
                [&title, meaning, "Kornblith et al., arXiv:1905.00414; Raghu et al., arXiv:2108.08810"],
            )?;
            numbers.push(("cka".into(), vec![layers + 1, columns], narrow(&values)));
        }
        Ok(numbers)
    }
}

/// The probability of a class after every layer.
pub(super) fn lens_plot(lens: &[(Vec<Ranked>, f32)], class: &str) -> Result<String, Error> {
    let line = |of: fn(&(Vec<Ranked>, f32)) -> f32| {
        lens.iter().enumerate().map(|(layer, found)| (layer as f64, f64::from(of(found)))).collect()
    };
    let series = [
        Series { name: class, points: line(|found| found.1), role: Role::Compared },
        Series {
            name: "the best class",
            points: line(|found| found.0.first().map_or(0.0, |best| best.probability)),
            role: Role::Compared,
        },
    ];
    plot::lines(&Labels { title: "Prediction after each layer", x: "layers passed", y: "probability" }, &series)
}

/// Draws the insertion and deletion curves of all maps.
pub(super) fn ranking(work: &mut Work<'_>) -> anyhow::Result<Ranking> {
    let ranking = work.report.ranking.clone();
    let rows = ranking.rows();
    let Some(images) = rows.first().map(|row| row.images) else { return Ok(ranking) };
    for (name, better, x, meaning) in [
        (
            "deletion",
            "lower",
            "fraction of patches hidden",
            "The score as patches are hidden, most important first. It drops fast for a faithful map, faster than for the \
             random one.",
        ),
        (
            "insertion",
            "higher",
            "fraction of patches revealed",
            "The score as patches are revealed over a blurred image, most important first. It rises fast for a faithful \
             map, faster than for the random one.",
        ),
    ] {
        let series: Vec<Series<'_>> = rows
            .iter()
            .map(|row| {
                let curve = if name == "deletion" { &row.curves.deletion } else { &row.curves.insertion };
                let last = (curve.scores.len() - 1).max(1) as f64;
                let points = curve.scores.iter().enumerate().map(|(i, score)| (i as f64 / last, *score)).collect();
                let role = if row.method == Method::Random { Role::Baseline } else { Role::Compared };
                Series { name: &row.name, points, role }
            })
            .collect();
        let noun = if images == 1 { "image" } else { "images" };
        let title = format!("{}{}, {images} {noun}: {better} is better", name[..1].to_uppercase(), &name[1..]);
        let text = plot::lines(&Labels { title: &title, x, y: &work.report.score.clone() }, &series)?;
        work.folder.plot(name, &text)?;
        let figure = shown(&title, FigureImage::Svg(text), meaning, "Petsiuk et al., arXiv:1806.07421");
        work.report.figures.push(figure);
    }
    Ok(ranking)
}
