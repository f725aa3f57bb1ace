//! A text tower with its weights and its tokenizer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use vitral_engine::{Context, DType, Device, ParameterSpec, Parameters, Precision};

use super::tokenizer::{Tokenizer, says_how};
use crate::config::{Problem, Size, TextConfig, TextPooling};
use crate::error::Error;
use crate::model::TextTower;
use crate::weights::assign::{finite, rows};
use crate::weights::{Container, Dialect, ResolveOptions, WeightsError, load_text_description, resolve};

/// Characters of a text that an error shows.
const SHOWN: usize = 200;

/// How many texts are computed at a time.
const TEXTS: usize = 64;

/// The text tower of a model of images and texts.
pub struct TextModel {
    path: PathBuf,
    tower: TextTower,
    parameters: Parameters,
    tokenizer: Tokenizer,
    /// The weight files, out of which rows of the table of token embeddings are read.
    container: Container,
    /// The name of that table.
    table: String,
    padding: u32,
    scale: f32,
    bias: f32,
    problem: Problem,
}

impl fmt::Debug for TextModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextModel").field("path", &self.path).field("tower", &self.tower).finish_non_exhaustive()
    }
}

impl TextModel {
    /// Loads the text tower beside the vision tower at `path`: a Hugging Face folder of CLIP, SigLIP or SigLIP 2, or an OpenAI
    /// or OpenCLIP checkpoint with `config` and the tokenizer's files beside it. It is computed in f32 where the device
    /// can.
    ///
    /// # Errors
    /// If there is no text tower or no tokenizer, or its files are damaged or do not fit each other.
    pub fn load(path: &Path, config: Option<&Path>, device: &Device) -> Result<Self, Error> {
        let description = load_text_description(path, config)?;
        let tokenizer = Tokenizer::of_folder(&description.folder)?;
        // CLIP's file says everything by itself.
        if description.problem == Problem::MultiLabel && !says_how(&description.folder) {
            let fault = "expected `tokenizer_config.json` beside the tokenizer: without it, it is not known whether texts keep \
                         capitals and punctuation";
            return Err(WeightsError::Tokenizer { path: description.folder, fault: fault.to_owned() }.into());
        }
        let tower = TextTower::new(description.config.clone())
            .map_err(|fault| Error::Config { path: path.to_owned(), fault })?;
        let container = Container::open_files(&description.files, None)?;
        let dialect =
            Dialect::of_texts(description.dialect).expect("the dialects that a description names are built in");
        let options = ResolveOptions {
            patch_size: Size::square(1),
            head_width: description.config.width / description.config.heads.max(1),
            rotary: None,
            positions: None,
            ignore: Vec::new(),
        };
        let device = match device.precisions().contains(&Precision::F32) {
            true => device.clone().with_precision(Precision::F32)?,
            false => device.clone(),
        };
        let (parameters, table) = {
            let assignment = resolve(&tower.specs(), &dialect, &container, &options)?;
            let read = |spec: &ParameterSpec| {
                let values = assignment.read(&spec.name)?;
                finite(&spec.name, &values).map(|()| values)
            };
            let parameters = Parameters::prepared_as(tower.declarations().clone(), device, |_| DType::F32, read)?;
            let table = assignment.tensor(TextTower::TABLE).expect("resolved").to_owned();
            (parameters, table)
        };
        let number = |name: &str| -> Result<Option<f32>, Error> {
            // Its name may be inside a module that was wrapped around the model.
            let inside = format!(".{name}");
            let Some(whole) = container.names().find(|found| *found == name || found.ends_with(&inside)) else {
                return Ok(None);
            };
            let Some(view) = container.tensor(whole) else { return Ok(None) };
            let found = view.shape.to_vec();
            let values = crate::weights::assign::floats(view, name)?;
            match values[..] {
                [value] if value.is_finite() => Ok(Some(value)),
                _ => {
                    let fault = format!("expected one number as `{name}`, found a tensor of shape {found:?}");
                    Err(WeightsError::NoTextTower { path: path.to_owned(), fault }.into())
                }
            }
        };
        // Without it, probabilities would be nearly uniform.
        let scale = number("logit_scale")?.ok_or_else(|| WeightsError::NoTextTower {
            path: path.to_owned(),
            fault: "expected `logit_scale` among its tensors, by which similarities are multiplied".to_owned(),
        })?;
        let scale = scale.exp();
        let bias = number("logit_bias")?.unwrap_or(0.0);
        Ok(TextModel {
            path: path.to_owned(),
            tower,
            parameters,
            tokenizer,
            container,
            table,
            padding: description.padding,
            scale,
            bias,
            problem: description.problem,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &TextConfig {
        self.tower.config()
    }

    /// The path that it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What similarities of image and text are multiplied by: the temperature's inverse, at least 1 in trained models.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// What is added to them (SigLIP).
    pub fn bias(&self) -> f32 {
        self.bias
    }

    /// How the result becomes probabilities: a softmax over texts (CLIP), or a sigmoid of each (SigLIP).
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The tokens of a text, with those that begin and end it, and filled up if the model takes texts of one length.
    ///
    /// # Errors
    /// If the text has more tokens than the model takes.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        let context = self.config().context;
        let tokens = self.tokenizer.tokens(text)?;
        if tokens.is_empty() || tokens.len() > context {
            // Enough to know it again.
            let text = match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.to_owned(),
            };
            return Err(Error::Text { text, expected: context, found: tokens.len() });
        }
        Ok(match self.config().pooling {
            TextPooling::Last => self.tokenizer.filled(tokens, context, self.padding),
            TextPooling::First { .. } | TextPooling::Largest => tokens,
        })
    }

    /// Vectors of texts, one after the other, each [`TextConfig::feature_width`] numbers, as the tower gives them: compare their
    /// directions. A text has the same bits alone and among others.
    ///
    /// # Errors
    /// If a text is too long, or the device fails.
    pub fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>, Error> {
        let mut by_length: BTreeMap<usize, Vec<(usize, Vec<u32>)>> = BTreeMap::new();
        for (index, text) in texts.iter().enumerate() {
            let tokens = self.tokens(text.as_ref())?;
            by_length.entry(tokens.len()).or_default().push((index, tokens));
        }
        let mut vectors = vec![Vec::new(); texts.len()];
        // Texts of one length need no filling, which would only be masked.
        for group in by_length.values().flat_map(|group| group.chunks(TEXTS)) {
            let (indices, tokens): (Vec<usize>, Vec<Vec<u32>>) = group.iter().cloned().unzip();
            for (index, vector) in indices.into_iter().zip(self.vectors(&tokens)?) {
                vectors[index] = vector;
            }
        }
        Ok(vectors)
    }

    /// The vectors of texts of the same number of tokens.
    fn vectors(&self, tokens: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        let (config, device) = (self.config(), self.parameters.device());
        let length = tokens.first().map_or(0, Vec::len);
        let wanted: Vec<usize> = tokens.iter().flatten().map(|&token| token as usize).collect();
        if let Some(&found) = wanted.iter().find(|&&token| token >= config.vocabulary) {
            let fault = format!(
                "its tokenizer gives token {found}, but the model has {}: the tokenizer belongs to another model",
                config.vocabulary
            );
            return Err(WeightsError::Tokenizer { path: self.path.clone(), fault }.into());
        }
        let embedded = rows(&self.container, &self.table, &wanted)?;
        finite(&self.table, &embedded)?;
        let embedded = device.upload([tokens.len(), length, config.width], &embedded)?;
        let pass = || self.tower.forward(&Context::inference(&self.parameters), tokens, &embedded);
        let output = device.scope(pass)?;
        let width = config.feature_width();
        Ok(output.to_vec()?.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }
}
