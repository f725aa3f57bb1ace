//! A model's text tower at work: vectors of texts, and classes in words.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use vitral::text::{PLACE, TextClasses, TextLabels, TextModel};

use crate::fault::{Fault, Kind};
use crate::job::late;
use crate::turns::Turns;

/// Bytes of a text, far more than any tower takes.
const LONGEST: usize = 4 << 10;
/// Sets of classes that are kept, and the bytes of all of them.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 16 << 20;

/// A text tower that several requests use.
pub(crate) struct Texts {
    tower: TextModel,
    turns: Arc<Turns>,
    /// Requests that may wait.
    room: Semaphore,
    /// One computes at a time.
    one: Arc<Semaphore>,
    /// Texts in a request, at most.
    capacity: usize,
    kept: Mutex<Kept>,
}

/// Vectors of texts, and how many tokens they have in all.
#[derive(Default)]
pub(crate) struct TextVectors {
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) tokens: usize,
}

impl Texts {
    /// `capacity` is how many texts a request may have, and how many requests may wait.
    pub(crate) fn new(tower: TextModel, turns: Arc<Turns>, capacity: usize) -> Self {
        let (room, one) = (Semaphore::new(capacity.min(Semaphore::MAX_PERMITS)), Arc::new(Semaphore::new(1)));
        Texts { tower, turns, room, one, capacity, kept: Mutex::default() }
    }

    /// The vectors of texts, in their order.
    pub(crate) async fn embed(self: &Arc<Self>, texts: Vec<String>, deadline: Instant) -> Result<TextVectors, Fault> {
        self.check(&texts)?;
        self.compute(deadline, move |this| {
            let mut tokens = 0;
            for text in &texts {
                tokens += this.tower.tokens(text)?.len();
            }
            Ok(TextVectors { vectors: this.tower.embed(&texts)?, tokens })
        })
        .await
    }

    /// The classes that labels describe, each put into the template. Those of earlier requests are kept, within bounds.
    pub(crate) async fn classes(
        self: &Arc<Self>,
        labels: Vec<String>,
        template: String,
        deadline: Instant,
    ) -> Result<Arc<TextClasses>, Fault> {
        self.check(&labels)?;
        self.check(std::slice::from_ref(&template))?;
        self.check_made(&labels, &template)?;
        let key = Key { labels, template };
        if let Some(found) = self.kept().find(&key) {
            return Ok(found);
        }
        self.compute(deadline, move |this| {
            // Another request may have had the same.
            if let Some(found) = this.kept().find(&key) {
                return Ok(found);
            }
            let labels = TextLabels::new(&key.labels).templates([&key.template]);
            let classes = Arc::new(this.tower.classes(&labels)?);
            this.kept().keep(key, Arc::clone(&classes));
            Ok(classes)
        })
        .await
    }

    /// Refuses more or longer texts than a request may have.
    fn check(&self, texts: &[String]) -> Result<(), Fault> {
        if texts.len() > self.capacity {
            let message = format!("expected at most {} texts, found {}; split the request", self.capacity, texts.len());
            return Err(Fault::new(Kind::TooLarge, message));
        }
        match texts.iter().map(String::len).find(|&found| found > LONGEST) {
            Some(found) => Err(Fault::bad(format!(
                "expected a text of at most {LONGEST} bytes, found one of {found}; shorten it (an image is a data URI)"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a template that makes too long texts of labels, before any is made.
    fn check_made(&self, labels: &[String], template: &str) -> Result<(), Fault> {
        let places = template.matches(PLACE).count();
        let longest = labels.iter().map(String::len).max().unwrap_or(0);
        match template.len() + places * longest - places * PLACE.len() {
            made if made > LONGEST => Err(Fault::bad(format!(
                "expected a template that makes texts of at most {LONGEST} bytes of the labels, found one of {made}; put the label \
                 into it once"
            ))),
            _ => Ok(()),
        }
    }

    /// Computes with the tower in a thread that may block, when it is this model's turn.
    async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Instant,
        work: impl FnOnce(&Texts) -> Result<T, vitral::Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let full = |_| {
            let retry_after = Duration::from_secs(1);
            Fault::new(Kind::Full { retry_after }, "too many requests with texts wait for the model; try again later")
        };
        let _place = self.room.try_acquire().map_err(full)?;
        let computed = async {
            let closed = |_| Fault::new(Kind::Unavailable, "the model is being unloaded");
            let one = Arc::clone(&self.one).acquire_owned().await.map_err(closed)?;
            let this = Arc::clone(self);
            let computing = tokio::task::spawn_blocking(move || {
                let _one = one;
                let _turn = this.turns.take();
                if deadline <= Instant::now() { Err(late()) } else { work(&this).map_err(Fault::from) }
            });
            let failed = |_| Fault::new(Kind::Internal, "the text tower failed; please report it");
            computing.await.map_err(failed)?
        };
        tokio::time::timeout_at(deadline.into(), computed).await.unwrap_or_else(|_| Err(late()))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What classes are made of.
#[derive(PartialEq, Eq)]
struct Key {
    labels: Vec<String>,
    template: String,
}

/// Classes of earlier requests, the one that was used last at the end.
#[derive(Default)]
struct Kept {
    sets: VecDeque<(Key, Arc<TextClasses>)>,
    bytes: usize,
}

impl Kept {
    fn find(&mut self, key: &Key) -> Option<Arc<TextClasses>> {
        let place = self.sets.iter().position(|(found, _)| found == key)?;
        let set = self.sets.remove(place)?;
        let classes = Arc::clone(&set.1);
        self.sets.push_back(set);
        Some(classes)
    }

    fn keep(&mut self, key: Key, classes: Arc<TextClasses>) {
        let size_of_set = size(&key, &classes);
        // One request must not push out all others.
        if size_of_set > KEPT_BYTES / 4 {
            return;
        }
        self.bytes += size_of_set;
        self.sets.push_back((key, classes));
        while self.sets.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some((key, classes)) = self.sets.pop_front() else { break };
            self.bytes -= size(&key, &classes);
        }
    }
}

/// The bytes of a set, nearly: the labels are in it twice.
fn size(key: &Key, classes: &TextClasses) -> usize {
    let labels: usize = key.labels.iter().map(|label| label.len() + size_of::<String>()).sum();
    2 * labels + key.template.len() + size_of_val(classes.directions())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vitral::Device;

    use super::*;

    fn tower() -> TextModel {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/texts/clip");
        TextModel::load(&folder, None, &Device::cpu(1)).expect("a text tower")
    }

    fn key(labels: &[&str]) -> Key {
        Key { labels: labels.iter().map(|&label| label.to_owned()).collect(), template: "{}".to_owned() }
    }

    #[test]
    fn sets_that_were_not_used_for_longest_go_first() {
        let classes = Arc::new(tower().classes(&TextLabels::new(["cat", "dog"])).expect("classes"));
        let mut kept = Kept::default();
        for number in 0..KEPT {
            kept.keep(key(&["cat", &number.to_string()]), Arc::clone(&classes));
        }
        assert!(kept.find(&key(&["cat", "0"])).is_some());
        kept.keep(key(&["one more"]), Arc::clone(&classes));
        assert_eq!(kept.sets.len(), KEPT);
        assert!(kept.find(&key(&["cat", "0"])).is_some() && kept.find(&key(&["cat", "1"])).is_none());
        // Long ones take the place of several; one that is too long is not kept.
        for number in 0..9 {
            kept.keep(key(&[&"a".repeat(KEPT_BYTES / 10 - number)]), Arc::clone(&classes));
        }
        assert!(kept.bytes <= KEPT_BYTES && kept.sets.len() < 9, "{} bytes in {}", kept.bytes, kept.sets.len());
        let sets = kept.sets.len();
        kept.keep(key(&[&"a".repeat(KEPT_BYTES / 4)]), classes);
        let counted: usize = kept.sets.iter().map(|(key, classes)| size(key, classes)).sum();
        assert_eq!((kept.sets.len(), kept.bytes), (sets, counted));
    }

    #[test]
    fn a_request_is_answered_from_what_is_kept() {
        let texts = Arc::new(Texts::new(tower(), Arc::default(), 4));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let soon = Instant::now() + Duration::from_secs(60);
            let labels = || vec!["cat".to_owned(), "dog".to_owned()];
            let ask = |template: &str| texts.classes(labels(), template.to_owned(), soon);
            let [first, again, other] = [ask("a {}").await, ask("a {}").await, ask("the {}").await];
            let [first, again, other] = [first, again, other].map(|found| found.expect("classes"));
            assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
            assert_ne!(first.directions(), other.directions());
            let fault = texts.embed(vec!["cat".to_owned(); 5], soon).await.err().expect("too many");
            assert_eq!(fault.kind(), Kind::TooLarge);
            let fault = texts.embed(vec!["cat ".repeat(2000)], soon).await.err().expect("too long");
            assert_eq!(fault.kind(), Kind::BadRequest);
            let template = "{}".repeat(1000);
            let fault = texts.classes(vec!["long".repeat(100)], template, soon).await.expect_err("too long together");
            assert_eq!(fault.kind(), Kind::BadRequest);
            let past = Instant::now();
            let fault = texts.embed(vec!["cat".to_owned()], past).await.err().expect("too late");
            assert_eq!(fault.kind(), Kind::Deadline);
        });
    }
}
