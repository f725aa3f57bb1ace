//! How two recipes of a run differ.

use toml::{Table, Value};

/// Keys that may change between a checkpoint and its continuation: the steps so far do not depend on them, or what they
/// name is recognized in another way (data by its classes, a model by its parameters).
const FREE: [&str; 9] = [
    "run.epochs",
    "run.share_moments",
    "run.keep",
    "run.checkpoint_every",
    "run.evaluate_every",
    "data.train",
    "data.test",
    "model.from",
    "distillation.teacher",
];
/// How many differences are listed.
const LISTED: usize = 3;

/// The keys in which two resolved recipes differ, with both values, as part of a sentence; `None` if they agree in all that
/// matters.
pub(super) fn differences(before: &str, now: &str) -> Option<String> {
    if before == now {
        return None;
    }
    let (Ok(mut before), Ok(mut now)) = (before.parse::<Table>(), now.parse::<Table>()) else {
        return Some("one of the two is not TOML".to_owned());
    };
    // Earlier versions wrote this default out.
    for recipe in [&mut before, &mut now] {
        let run = recipe.get_mut("run").and_then(Value::as_table_mut);
        if let Some(run) = run.filter(|run| run.get("loss").and_then(Value::as_str) == Some("cross-entropy")) {
            run.remove("loss");
        }
    }
    let mut found = Vec::new();
    compare("", &before, &now, &mut found);
    if found.is_empty() {
        return None;
    }
    let more = if found.len() > LISTED { format!(", and {} more", found.len() - LISTED) } else { String::new() };
    Some(format!("{}{more}", found.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ")))
}

fn compare(path: &str, before: &Table, now: &Table, found: &mut Vec<String>) {
    let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
    for key in keys {
        let whole = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if FREE.contains(&whole.as_str()) {
            continue;
        }
        match (before.get(key), now.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(now))) => compare(&whole, before, now, found),
            (before, now) if before != now => {
                let shown = |value: Option<&Value>| value.map_or("not set".to_owned(), ToString::to_string);
                found.push(format!("`{whole}` was {}, is now {}", shown(before), shown(now)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let before = "[run]\nepochs = 2\nseed = 1\n[data]\ntrain = \"a\"\n[schedule]\nlearning_rate = 0.1\n";
        let more = before.replace("epochs = 2", "epochs = 5").replace("\"a\"", "\"/b\"");
        assert_eq!(differences(before, &more), None);
        let other = before.replace("seed = 1", "seed = 2").replace("0.1", "0.5");
        let found = differences(before, &other).expect("two keys");
        assert_eq!(found, "`run.seed` was 1, is now 2, `schedule.learning_rate` was 0.1, is now 0.5");
        let set = format!("{before}[lora]\nrank = 8\n");
        assert_eq!(differences(before, &set).expect("a section"), "`lora` was not set, is now { rank = 8 }");
    }
}
