//! Many requests at once, reloading under load, and ending without losing an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vitral::{Device, LoadOptions, Model};
use vitral_serve::{ModelSource, Options};

use crate::started::{Label, Started, agent, cat, images, read, root, sent, some};

#[test]
fn a_thousand_answers_to_sixteen_clients_have_the_bits_of_one() {
    let server = Started::with(Options::default().max_batch_size(some(5)));
    let model = Model::embedded(&Device::cpu(1)).expect("the built-in model");
    let all = images();
    let labels = |bytes: &[u8]| -> Vec<Label> {
        model.classify_bytes(bytes, 5).expect("labels").into_iter().map(Label::from).collect()
    };
    let expected: Vec<Value> = all.iter().map(|(_, bytes)| sent(labels(bytes))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let agent = agent();
                loop {
                    let turn = next.fetch_add(1, SeqCst);
                    if turn >= 1000 {
                        break;
                    }
                    let place = turn % all.len();
                    let response = agent.post(server.url("/v1/classify")).send(&all[place].1).expect("an answer");
                    let (status, found) = read(response);
                    assert_eq!((status, &found["results"][0]["labels"]), (200, &expected[place]));
                }
            });
        }
    });
    // They did meet in batches.
    let (_, statistics) = read(server.get("/v2/models/cifar10/stats"));
    let of = |name: &str| statistics["model_stats"][0][name].as_u64().expect("a count");
    assert!(of("inference_count") == 1000 && of("execution_count") < 1000, "{statistics}");
}

#[test]
fn batches_wait_for_their_delay_and_no_longer() {
    let options = Options::default()
        .max_batch_size(some(4))
        .preferred_batch_size(some(2))
        .max_queue_delay(Duration::from_millis(400));
    let server = Started::with(options);
    let started = Instant::now();
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
    assert!(started.elapsed() >= Duration::from_millis(400));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(server.image("/v1/classify", &cat()).0, 200));
        }
    });
    assert!(started.elapsed() < Duration::from_millis(390), "two are enough: {:?}", started.elapsed());
}

#[test]
fn overload_is_refused_and_passes() {
    let server = Started::with(Options::default().max_queue_size(some(4)));
    let statuses = std::sync::Mutex::new(BTreeMap::new());
    let until = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let agent = agent();
                while Instant::now() < until {
                    let response = agent.post(server.url("/v1/classify")).send(&cat()[..]).expect("an answer");
                    *statuses.lock().expect("no panic").entry(read(response).0).or_insert(0) += 1;
                }
            });
        }
    });
    let statuses = statuses.into_inner().expect("no panic");
    assert!(statuses.keys().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses[&200] > 10 && statuses[&429] > 10, "{statuses:?}");
    let started = Instant::now();
    assert_eq!(server.image("/v1/classify", &cat()).0, 200);
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn ending_under_load_answers_what_was_accepted() {
    let mut server = Started::usual();
    let (address, ended) = (server.url("/v1/classify"), AtomicBool::new(false));
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let agent = agent();
                loop {
                    match agent.post(&address).send(&cat()[..]).map(read) {
                        Ok((200, found)) => {
                            assert_eq!(found["results"][0]["labels"][0]["label"], json!("cat"));
                            answered.fetch_add(1, SeqCst);
                        }
                        Ok((503, _)) => {
                            refused.fetch_add(1, SeqCst);
                        }
                        Ok((status, found)) => panic!("{status} {found}"),
                        // Nobody listens any more.
                        Err(fault) => {
                            assert!(ended.load(SeqCst), "lost an answer: {fault}");
                            break;
                        }
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        ended.store(true, SeqCst);
        server.end().expect("a good end");
    });
    assert!(answered.load(SeqCst) > 8 && refused.load(SeqCst) > 0, "{answered:?} {refused:?}");
}

/// A golden model with a classifier, and another of the same kind.
fn golden(name: &str) -> std::path::PathBuf {
    let path = root().join("goldens/models").join(name);
    assert!(path.exists(), "the golden model `{}` has moved", path.display());
    path
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

#[test]
fn a_model_that_changed_on_disk_is_loaded_again_without_losing_a_request() {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&golden("hf_vit_classifier"), folder.path());
    let source = ModelSource::path(folder.path(), LoadOptions::default());
    let server = Started::serving([("changing", source), ("cifar10", ModelSource::embedded(None))], Options::default());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let features = || server.image("/v1/embed?model=changing", &cat());
    let before = features();
    assert_eq!(before.0, 200);
    runtime.block_on(server.server.reload());
    assert_eq!(features(), before, "nothing has changed");

    let weights = folder.path().join("model.safetensors");
    let good = std::fs::read(&weights).expect("weights");
    std::fs::write(&weights, &good[..good.len() / 2]).expect("written");
    runtime.block_on(server.server.reload());
    assert_eq!(features(), before, "what cannot be loaded changes nothing");

    let mut other = good.clone();
    // The last number of the file gets another sign.
    *other.last_mut().expect("bytes") ^= 0x80;
    let done = AtomicBool::new(false);
    let after = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(SeqCst) {
                assert_eq!(features().0, 200);
            }
        });
        std::fs::write(&weights, &other).expect("written");
        runtime.block_on(server.server.reload());
        let after = features();
        done.store(true, SeqCst);
        asking.join().expect("no request is lost");
        after
    });
    assert_eq!(after.0, 200);
    assert_ne!(after.1["results"], before.1["results"], "the new weights answer");

    // Unloaded by a request, and loaded again by another.
    let post = |path: &str| server.post(path, "application/json", b"").status().as_u16();
    assert_eq!(post("/v2/repository/models/changing/unload"), 200);
    assert_eq!(features().0, 404);
    let index = read(server.post("/v2/repository/index", "application/json", b"")).1;
    assert_eq!((&index[0]["state"], &index[1]["state"]), (&json!("UNAVAILABLE"), &json!("READY")));
    std::fs::write(&weights, b"no weights").expect("written");
    assert_eq!(post("/v2/repository/models/changing/load"), 400);
    assert_eq!(features().0, 503);
    std::fs::write(&weights, good).expect("written");
    assert_eq!(post("/v2/repository/models/changing/load"), 200);
    assert_eq!(features(), before);
    assert_eq!(post("/v2/repository/models/none/load"), 404);
}
