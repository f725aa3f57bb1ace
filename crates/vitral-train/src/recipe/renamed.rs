//! Keys that recipes of earlier versions spell differently, and values with a shorter form.

use toml::{Table, Value};

/// A section (none for the top of the file), the key of before, and the key of now.
const RENAMED: [(&str, &str, &str); 9] = [
    ("", "optimiser", "optimizer"),
    ("schedule", "rate", "learning_rate"),
    ("schedule", "rate_batch", "learning_rate_batch"),
    ("schedule", "warmup_rate", "warmup_learning_rate"),
    ("schedule", "final_rate", "final_learning_rate"),
    ("data", "held_out", "validation_split"),
    ("model", "initialise", "initialize"),
    ("augment", "colour_jitter", "color_jitter"),
    ("run", "average", "ema_decay"),
];

/// The key of now for a key such as `schedule.rate`, which may be below a renamed one.
pub(super) fn current(key: &str) -> String {
    for (section, old, new) in RENAMED {
        let before = if section.is_empty() { old.to_owned() } else { format!("{section}.{old}") };
        if let Some(rest) = key.strip_prefix(&before).filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            return format!("{}{new}{rest}", &before[..before.len() - old.len()]);
        }
    }
    key.to_owned()
}

/// Brings a recipe of an earlier version to the keys of this one.
///
/// # Errors
/// If it has both the key of before and the key of now.
pub(super) fn migrate(recipe: &mut Table) -> Result<(), String> {
    for (section, old, new) in RENAMED {
        let table = match section {
            "" => Some(&mut *recipe),
            section => recipe.get_mut(section).and_then(Value::as_table_mut),
        };
        let Some(table) = table else { continue };
        let Some(value) = table.remove(old) else { continue };
        if table.insert(new.to_owned(), value).is_some() {
            return Err(format!("`{old}` is now called `{new}`, and both are given; keep `{new}`"));
        }
    }
    let head = recipe.get_mut("model").and_then(|model| model.get_mut("head"));
    if let Some(head) = head.filter(|head| head.as_str() == Some("drawn")) {
        *head = "random".into();
    }
    // A limit alone is that of the norm, which is what other libraries mean by clipping.
    let clip = recipe.get_mut("run").and_then(|run| run.get_mut("clip"));
    if let Some(clip) = clip.filter(|clip| clip.is_float() || clip.is_integer()) {
        *clip = Value::Table(Table::from_iter([("norm".to_owned(), clip.clone())]));
    }
    // A name alone stands for what has numbers, with their defaults.
    for (key, names) in [("loss", &["focal", "binary-focal"][..]), ("class_weights", &["effective"])] {
        let value = recipe.get_mut("run").and_then(|run| run.get_mut(key));
        if let Some(value) = value
            && let Some(name) = value.as_str().filter(|name| names.contains(name)).map(str::to_owned)
        {
            *value = Value::Table(Table::from_iter([(name, Value::Table(Table::new()))]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_of_before_are_read() {
        let old = "[model]\ninitialise = \"jax\"\nhead = \"drawn\"\n[optimiser]\nkind = \"lion\"\n[schedule]\nrate = 1e-3\n[run]\naverage = 0.9";
        let new = "[model]\ninitialize = \"jax\"\nhead = \"random\"\n[optimizer]\nkind = \"lion\"\n[schedule]\nlearning_rate = 1e-3\n[run]\nema_decay = 0.9";
        let mut recipe: Table = old.parse().expect("TOML");
        migrate(&mut recipe).expect("no contradiction");
        assert_eq!(recipe, new.parse().expect("TOML"));
        assert_eq!(current("schedule.rate"), "schedule.learning_rate");
        assert_eq!(current("optimiser.beta1"), "optimizer.beta1");
        assert_eq!(current("schedule.rates"), "schedule.rates");
        let mut both: Table = "[schedule]\nrate = 1e-3\nlearning_rate = 1e-3".parse().expect("TOML");
        assert!(migrate(&mut both).expect_err("both").contains("`rate` is now called `learning_rate`"));
    }
}
