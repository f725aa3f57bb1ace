//! Class names and top-k predictions.

use crate::config::Problem;
use crate::numbers::largest;

/// Names of a model's classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Option<Vec<String>>);

impl Labels {
    /// Names in class order; without names, classes are called by their index.
    pub fn new(names: Option<Vec<String>>) -> Self {
        Labels(names)
    }

    /// The name of a class.
    pub fn name(&self, class: usize) -> String {
        match self.0.as_ref().and_then(|names| names.get(class)) {
            Some(name) => name.clone(),
            None => format!("class {class}"),
        }
    }

    /// All names, if there are any.
    pub fn names(&self) -> Option<&[String]> {
        self.0.as_deref()
    }
}

/// One prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Index of the class.
    pub class: usize,
    /// Its name.
    pub label: String,
    /// Its probability, or in a regression the number itself.
    pub probability: f32,
    /// The model's raw output for the class.
    pub logit: f32,
}

/// What each logit of an image becomes: a probability, or in a regression itself.
pub(crate) fn probability(logits: &[f32], problem: Problem) -> impl Fn(f32) -> f64 {
    let greatest = largest(logits.iter().copied());
    let total: f64 = logits.iter().map(|&x| f64::from(x - greatest).exp()).sum();
    let several = logits.len() > 1;
    move |logit| match problem {
        Problem::SingleLabel if several => f64::from(logit - greatest).exp() / total,
        Problem::SingleLabel | Problem::MultiLabel => 1.0 / (1.0 + f64::from(-logit).exp()),
        Problem::Regression | Problem::Embedding => f64::from(logit),
    }
}

/// What all logits of an image become: probabilities, or in a regression themselves.
pub fn probabilities(logits: &[f32], problem: Problem) -> Vec<f32> {
    let probability = probability(logits, problem);
    logits.iter().map(|&logit| probability(logit) as f32).collect()
}

/// The `count` most likely classes, best first; ties in class order.
pub fn top(logits: &[f32], count: usize, labels: &Labels, problem: Problem) -> Vec<Ranked> {
    let probability = probability(logits, problem);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let ranked = |class: usize| Ranked {
        class,
        label: labels.name(class),
        probability: probability(logits[class]) as f32,
        logit: logits[class],
    };
    order.into_iter().take(count).map(ranked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_classes_come_first_with_their_softmax() {
        let labels = Labels::new(Some(vec!["a".into(), "b".into(), "c".into()]));
        let top = top(&[1.0, 3.0, 3.0], 2, &labels, Problem::SingleLabel);
        assert_eq!(top.iter().map(|r| r.label.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        let share = 1.0 / (2.0 + (-2.0f32).exp());
        assert!((top[0].probability - share).abs() < 1e-6);
    }

    #[test]
    fn unnamed_classes_are_numbered_and_count_is_capped() {
        let top = top(&[0.0, 1000.0], 5, &Labels::default(), Problem::SingleLabel);
        assert_eq!(top.len(), 2);
        assert_eq!((top[0].label.as_str(), top[0].probability), ("class 1", 1.0));
    }

    #[test]
    fn what_the_logits_say_decides_what_is_shown() {
        let shown = |logits: &[f32], problem| {
            top(logits, 9, &Labels::default(), problem).iter().map(|ranked| ranked.probability).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[0.0, -1000.0, 1000.0], Problem::MultiLabel), [1.0, 0.5, 0.0]);
        assert_eq!(shown(&[-2.5, 1e6], Problem::Regression), [1e6, -2.5]);
        // With one class, softmax would be certain whatever the image.
        assert_eq!(shown(&[0.0], Problem::SingleLabel), [0.5]);
    }
}
