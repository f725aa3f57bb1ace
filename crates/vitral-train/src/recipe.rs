//! Recipes: a run described in TOML. `keys.rs` defines every key with its default, `check.rs` the values it may have.

mod check;
mod fault;
mod finetuning;
mod keys;
mod renamed;

use std::path::Path;

use crate::error::TrainError;

pub use finetuning::Finetuning;
pub(crate) use keys::LEAVES;
pub use keys::{DataRecipe, ModelRecipe, NewHead, Recipe, RunRecipe, SubsetRecipe, TeacherRecipe, TrainingPrecision};

/// A recipe key set from outside, as in `schedule.learning_rate=3e-4`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    key: String,
    value: toml::Value,
}

impl Setting {
    /// A setting with a given value.
    pub fn new(key: impl Into<String>, value: impl Into<toml::Value>) -> Self {
        Setting { key: key.into(), value: value.into() }
    }

    /// Parses `key.path=value`; the value is parsed as TOML, or else taken as a string.
    ///
    /// # Errors
    /// If there is no `=`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not `key=value`"))?;
        let parsed = format!("value = {value}").parse::<toml::Table>().ok();
        let value = parsed.and_then(|mut table| table.remove("value"));
        let word = || toml::Value::String(text[key.len() + 1..].to_owned());
        Ok(Setting { key: key.trim().to_owned(), value: value.unwrap_or_else(word) })
    }

    /// Applies the setting to a table.
    fn apply(&self, table: &mut toml::Table) -> Result<(), String> {
        let current = renamed::current(&self.key);
        let (parents, key) = current.rsplit_once('.').unwrap_or(("", &current));
        let mut place = table;
        for part in parents.split('.').filter(|part| !part.is_empty()) {
            place = place
                .entry(part)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| format!("`{part}` of `{}` is not a table", self.key))?;
        }
        place.insert(key.to_owned(), self.value.clone());
        Ok(())
    }
}

/// Keys with paths, and whether they are paths in any case: a model can also be a name on a hub.
const PATHS: [(&str, &str, bool); 4] =
    [("data", "train", true), ("data", "test", true), ("model", "from", false), ("distillation", "teacher", false)];

/// Placeholder for data that has yet to be given.
const NOWHERE: &str = "";

impl Recipe {
    /// Reads a recipe file and applies settings on top. Paths in the file are relative to its folder, paths in settings
    /// to the working directory.
    ///
    /// # Errors
    /// If the file cannot be read, a key is unknown, or a value is invalid.
    pub fn load(path: &Path, settings: &[Setting]) -> Result<Self, TrainError> {
        let other = |bytes: &[u8]| TrainError::Recipe { path: path.to_owned(), fault: fault::no_text(path, bytes) };
        if path.is_dir() {
            return Err(other(&[]));
        }
        let bytes = std::fs::read(path).map_err(TrainError::file(path, "reading a recipe"))?;
        let text = String::from_utf8(bytes).map_err(|error| other(error.as_bytes()))?;
        Recipe::parse(&text, path, settings)
    }

    /// Parses a recipe's text as [`Recipe::load`] does; `path` is where it came from.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, path: &Path, settings: &[Setting]) -> Result<Self, TrainError> {
        let fault = |fault: String| TrainError::Recipe { path: path.to_owned(), fault };
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| fault(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        // Data paths are relative to the recipe; so are model paths, unless they are names on a hub.
        for (section, key, always) in PATHS {
            let value = table.get_mut(section).and_then(|section| section.get_mut(key));
            if let Some(toml::Value::String(value)) = value.filter(|value| value.as_str() != Some(NOWHERE)) {
                let beside = folder.join(&*value);
                if always || beside.exists() {
                    *value = beside.to_string_lossy().into_owned();
                }
            }
        }
        renamed::migrate(&mut table).map_err(fault)?;
        for setting in settings {
            setting.apply(&mut table).map_err(fault)?;
        }
        // Settings may have values in a shorter form, too.
        renamed::migrate(&mut table).map_err(fault)?;
        // Absolute, so that the resolved recipe in a run's folder means the same from anywhere.
        for (section, key, always) in PATHS {
            let value = table.get_mut(section).and_then(|section| section.get_mut(key));
            if let Some(toml::Value::String(value)) = value.filter(|value| value.as_str() != Some(NOWHERE))
                && (always || Path::new(value).exists())
                && let Ok(whole) = std::path::absolute(&*value)
            {
                *value = whole.to_string_lossy().into_owned();
            }
        }
        let recipe = fault::read(table).map_err(fault)?;
        match (&recipe.model.variant, &recipe.model.from) {
            (Some(_), Some(_)) => Err(fault("`model` has both `variant` and `from`; keep one".to_owned())),
            (None, None) => Err(fault("`model` has neither `variant` nor `from`; give one".to_owned())),
            _ if recipe.data.mean.is_some() != recipe.data.std.is_some() => {
                Err(fault("`data` has only one of `mean` and `std`; give both or neither".to_owned()))
            }
            (Some(_), None) if recipe.data.mean.is_none() && !recipe.data.statistics => {
                let needed = "`data.mean` and `data.std`, one number per channel, or `data.statistics`";
                Err(fault(format!("a model from scratch needs {needed}")))
            }
            _ if recipe.data.subset.is_some_and(|subset| !(subset.fraction > 0.0 && subset.fraction <= 1.0)) => {
                Err(fault("`data.subset.fraction` must be above 0 and at most 1".to_owned()))
            }
            _ if recipe.data.train.as_os_str() == NOWHERE => {
                Err(fault("`data.train` is not set; set it to the path of the images".to_owned()))
            }
            _ => check::check(&recipe).map(|()| recipe).map_err(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::optimize::Clip;

    fn written(text: &str, settings: &[&str]) -> Result<Recipe, TrainError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        let settings = settings.iter().map(|setting| Setting::parse(setting).expect("a setting"));
        Recipe::load(file.path(), &settings.collect::<Vec<_>>())
    }

    const SMALL: &str = r#"
        [model]
        variant = "test/4"
        set = { image_size = 28, channels = 1 }
        [data]
        train = "mnist"
        mean = [0.13]
        std = [0.31]
        [optimizer]
        kind = "adamw"
        [schedule]
        learning_rate = 1e-3
        [run]
        epochs = 2
        batch = 8
    "#;

    #[test]
    fn recipes_are_read_and_overridden() {
        let recipe = written(SMALL, &["run.epochs=5", "schedule.shape=linear"]).expect("a recipe");
        assert_eq!(recipe.run.epochs, 5);
        assert_eq!(recipe.schedule.shape, crate::optimize::Shape::Linear);
        assert_eq!(recipe.data.train.parent(), Some(std::env::temp_dir().as_path()), "relative to the recipe");
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (setting, key) in [
            ("run.epochs=0", "run.epochs"),
            ("run.batch=0", "run.batch"),
            ("run.accumulate=0", "run.accumulate"),
            ("run.keep=0", "run.keep"),
            ("run.ema_decay=1.5", "run.ema_decay"),
            ("run.clip=0.0", "run.clip.norm"),
            ("run.clip.adaptive=-1.0", "run.clip.adaptive"),
            ("schedule.learning_rate=-1", "schedule.learning_rate"),
            ("schedule.learning_rate=nan", "schedule.learning_rate"),
            ("schedule.warmup_epochs=-1", "schedule.warmup_epochs"),
            ("schedule.learning_rate_batch=0", "schedule.learning_rate_batch"),
            ("optimizer.beta1=2", "optimizer.beta1"),
            ("optimizer.epsilon=0", "optimizer.epsilon"),
            ("groups.weight_decay=-1", "groups.weight_decay"),
            ("groups.layer_decay=0", "groups.layer_decay"),
            ("data.std=[0]", "data.std"),
            ("data.std=[1, 1]", "data.std"),
            ("data.validation_split.fraction=1", "data.validation_split.fraction"),
            ("lora={ rank = 0 }", "lora.rank"),
            ("distillation={ teacher = 't', kind = 'soft', share = 2, temperature = 1 }", "distillation.share"),
            ("model.set.classes=5", "model.set.classes"),
            ("run.loss={ focal = { gamma = -1 } }", "run.loss.focal.gamma"),
            ("run.loss={ binary-focal = { gamma = -1 } }", "run.loss.binary-focal.gamma"),
            ("run.class_weights={ effective = { beta = 1 } }", "run.class_weights.effective.beta"),
            ("run.class_weights={ rose = -1 }", "run.class_weights"),
            ("run.class_weights=2", "run.class_weights"),
        ] {
            let error = written(SMALL, &[setting]).expect_err(setting).to_string();
            assert!(error.contains(&format!("`{key}`")), "{setting}: {error}");
        }
        let clipped = written(SMALL, &["run.clip=1"]).expect("a number is a norm");
        assert_eq!(clipped.run.clip, Some(Clip::Norm(1.0)));
    }

    #[test]
    fn a_name_alone_has_default_numbers_and_a_resolved_recipe_says_the_same() {
        for (short, long) in [
            ("run.loss=focal", "run.loss={ focal = { gamma = 2 } }"),
            ("run.loss=binary-focal", "run.loss={ binary-focal = { gamma = 2.0 } }"),
            ("run.class_weights=effective", "run.class_weights={ effective = { beta = 0.999 } }"),
            ("run.class_weights=inverse", "run.class_weights='inverse'"),
            ("run.class_weights={ effective = 2 }", "run.class_weights={ effective = 2.0 }"),
            ("run.sampling=each", "run.choose_by=accuracy"),
        ] {
            let [recipe, other] = [short, long].map(|setting| written(SMALL, &[setting]).expect(setting));
            assert_eq!(recipe, other, "{short}");
            let resolved = toml::to_string_pretty(&recipe).expect("TOML");
            assert_eq!(written(&resolved, &[]).expect(&resolved), recipe, "{short}");
        }
        let plain = toml::to_string_pretty(&written(SMALL, &[]).expect("a recipe")).expect("TOML");
        assert!(!["class_weights", "sampling", "choose_by"].iter().any(|key| plain.contains(key)), "{plain}");
    }

    #[test]
    fn related_sizes_follow_those_that_are_set() {
        let config = |settings: &[&str]| {
            let recipe = written(SMALL, settings).expect("a recipe");
            recipe.configuration(3).map(|config| config.expect("from scratch")).map_err(|error| error.to_string())
        };
        let base = config(&[]).expect("a size");
        let config = |settings: &[&str]| config(settings).map(|c| (c.width, c.heads, c.head_width, c.mlp_width));
        let (width, ratio) = (2 * base.width, base.mlp_width / base.width);
        assert_eq!(
            config(&[&format!("model.set.width={width}")]).expect("a wider model"),
            (width, base.heads, width / base.heads, ratio * width)
        );
        let half = ["model.set.heads=1".to_owned()];
        assert_eq!(config(&[&half[0]]).expect("one head").2, base.width);
        assert_eq!(config(&["model.set.heads=1", "model.set.head_width=8"]).expect("narrow").2, 8);
        let error = config(&["model.set.heads=5"]).expect_err("does not divide");
        assert!(error.contains("`heads` = 5") && error.contains("head_width"), "{error}");
        let tokens = written(SMALL, &["model.set.distillation_token=true"]).expect("a recipe");
        assert!(tokens.configuration(3).expect("a student").expect("from scratch").distillation_head);
    }

    #[test]
    fn unknown_keys_are_named() {
        for (setting, word) in
            [("run.epoch=3", "epoch"), ("shedule.rate=1", "shedule"), ("model.from=x", "both"), ("data.std=", "std")]
        {
            let error = written(SMALL, &[setting]).expect_err("a mistake");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_key_of_another_section_is_found() {
        for (setting, expected) in [
            ("epochs=3", "no such key `epochs`; did you mean `run.epochs`?"),
            ("epochs=many", "no such key `epochs`; did you mean `run.epochs`?"),
            ("run.learning_rate=1", "no such key `run.learning_rate`; did you mean `schedule.learning_rate`?"),
            ("width=64", "no such key `width`; did you mean `model.set.width`?"),
            ("run.epochs=many", "`run.epochs`: invalid type: string \"many\", expected a whole number"),
            ("data.subset=0.01", "expected a table such as `{ fraction = 0.01 }`"),
            ("run.batch=1.5", "expected a whole number"),
        ] {
            let error = written(SMALL, &[setting]).expect_err(setting).to_string();
            assert!(error.contains(expected) && error.trim_end() == error, "{setting}: {error}");
        }
        let error = written(SMALL, &["other=1"]).expect_err("in no section").to_string();
        assert!(error.contains("expected one of `model`"), "{error}");
    }

    #[test]
    fn files_that_are_no_recipes_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = |path: &Path| Recipe::load(path, &[]).expect_err("no recipe").to_string();
        assert!(said(folder.path()).contains("expected a recipe (a TOML file), found a folder"));
        let file = folder.path().join("cat.jpg");
        for (bytes, found) in [(&b"\xFF\xD8\xFF\xE0"[..], "an image (JPEG)"), (b"\xFE", "a file that is no text")] {
            std::fs::write(&file, bytes).expect("written");
            assert!(said(&file).contains(&format!("found {found}")), "{}", said(&file));
        }
    }

    /// The documentation page of recipes.
    const PAGE: &str = include_str!("../../../docs/recipes.md");

    /// The recipes on the page.
    fn blocks() -> Vec<&'static str> {
        PAGE.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect()
    }

    /// Keys of a recipe with the beginning of their comments.
    fn explained(block: &str) -> Vec<(String, &str)> {
        let mut section = "";
        let mut keys = Vec::new();
        for line in block.lines() {
            let (said, comment) = line.split_once('#').unwrap_or((line, ""));
            if let Some(name) = said.trim().strip_prefix('[') {
                section = name.trim_end_matches(']');
            } else if let Some((key, _)) = said.split_once('=') {
                keys.push((format!("{section}.{}", key.trim()), comment.split(';').next().unwrap_or_default().trim()));
            }
        }
        keys
    }

    #[test]
    fn the_page_tells_defaults() {
        let blocks = blocks();
        assert_eq!(blocks.len(), 4);
        for block in blocks {
            let whole = written(block, &[]).unwrap_or_else(|error| panic!("{error}"));
            whole.augment.check().expect("numbers in range");
            for (path, said) in explained(block) {
                let mut table: toml::Table = block.parse().expect("TOML");
                let (sections, key) = path.rsplit_once('.').expect("a section");
                let section =
                    sections.split('.').fold(&mut table, |table, name| table[name].as_table_mut().expect("one"));
                section.remove(key).expect("the line's key");
                let left = toml::to_string(&table).expect("TOML");
                let Ok(without) = written(&left, &[]) else {
                    assert!(!block.contains(&format!("# {said};")), "`{path}` is required but has a default");
                    continue;
                };
                assert_ne!(without, whole, "`{path}` is shown at its default, so the test cannot check it");
                let default = match said {
                    "none" => continue,
                    said => format!("{path}={said}"),
                };
                let with = written(&left, &[&default]).unwrap_or_else(|error| panic!("{default}: {error}"));
                assert_eq!(with, without, "the default of `{path}` is not {said}");
            }
        }
    }

    #[test]
    fn the_page_has_every_key() {
        let shown: Vec<String> = blocks().iter().flat_map(|block| explained(block)).map(|(path, _)| path).collect();
        let words: std::collections::HashSet<&str> =
            PAGE.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).collect();
        // The error for an unknown name lists the known ones.
        let known = |setting: &str| -> Vec<String> {
            let error = written(SMALL, &[setting]).expect_err(setting).to_string();
            let (_, names) = error.split_once("expected").unwrap_or_else(|| panic!("{setting}: {error}"));
            let names = names.lines().next().unwrap_or_default();
            let names: Vec<String> = names.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            assert!(!names.is_empty(), "the error for {setting} lists no names");
            names
        };
        let sections = known("other=1");
        let tables = "augment.color_jitter augment.erasing augment.mixing".split_whitespace().map(str::to_owned);
        for table in sections.iter().cloned().chain(tables) {
            // The keys of a teacher depend on its kind.
            if table == "distillation" {
                continue;
            }
            for key in known(&format!("{table}.other=1")) {
                let path = format!("{table}.{key}");
                let begins = |shown: &String| *shown == path || shown.starts_with(&format!("{path}."));
                assert!(shown.iter().any(begins), "docs/recipes.md shows no `{path}`");
            }
        }
        let mut settings = vec![
            "data.validation_split.other=1".to_owned(),
            "data.subset.other=1".into(),
            r#"distillation={ teacher = "t", kind = "other" }"#.into(),
            r#"distillation={ teacher = "t", kind = "soft", other = 1 }"#.into(),
        ];
        let choices = "model.initialize model.head data.filter augment.crop.kind augment.erasing.filling optimizer.kind \
                       schedule.shape pretraining.method run.clip run.loss run.class_weights run.sampling run.choose_by";
        settings.extend(choices.split_whitespace().map(|key| format!("{key}=other")));
        for kind in ["sgd", "lion", "lamb", "muon"] {
            settings.push(format!("optimizer={{ kind = \"{kind}\", other = 1 }}"));
        }
        for kind in ["padded", "random-resized"] {
            settings.push(format!("augment.crop={{ kind = \"{kind}\", other = 1 }}"));
        }
        for name in settings.iter().flat_map(|setting| known(setting)) {
            assert!(words.contains(name.as_str()), "docs/recipes.md lacks `{name}`");
        }
        let config = toml::Value::try_from(vitral::config::ModelConfig {
            qk_scale: Some(vitral::config::QkScale::Number(1.0)),
            layer_scale: Some(1.0),
            pre_logits: Some(1),
            ..Default::default()
        });
        let config = config.expect("a table");
        let drops = config["drop"].as_table().expect("a table").keys();
        for field in config.as_table().expect("a table").keys().chain(drops) {
            assert!(words.contains(field.as_str()) || field == "classes", "docs/recipes.md lacks `{field}`");
        }
    }

    #[test]
    fn committed_recipes_are_whole() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes"));
        let files = |folder: &Path| -> Vec<PathBuf> {
            let listing = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
            listing.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect()
        };
        let found = [files(root), files(&root.join("study"))].concat();
        assert!(found.len() > 15, "{found:?}");
        for path in found {
            let text = std::fs::read_to_string(&path).expect("text");
            let data = [Setting::new("data.train", "images")];
            let begun = Setting::new("model.from", "model");
            let from = text.contains("\nfrom =").then_some(begun);
            let settings: Vec<Setting> = data.into_iter().chain(from).collect();
            let recipe = Recipe::load(&path, &settings).unwrap_or_else(|error| panic!("{error}"));
            recipe.augment.check().expect("numbers in range");
            recipe.configuration(10).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}
