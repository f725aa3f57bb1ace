//! One step on every device.

use std::path::Path;

use vitral::Device;
use vitral::config::{ModelConfig, Size};
use vitral::model::init::{Initialization, initialize};
use vitral::model::{Vit, variants};
use vitral_engine::{Parameters, Tensor};
use vitral_ranks::{Ranks, Reduction};
use vitral_train::TrainError;
use vitral_train::loss::Loss;
use vitral_train::optimize::{Clip, GroupOptions, Optimizer, Schedule, groups};
use vitral_train::step::{Batch, Place, Rules, StepReport, TeacherFn, Trainer};

/// A trainer with everything on: dropping, clipping, the moving average.
fn trainer(device: &Device, ranks: Ranks) -> Trainer {
    let mut config = ModelConfig { image_size: Size::square(16), classes: 2, ..variants::find("test/4").unwrap() };
    config.drop.hidden = 0.1;
    config.drop.path = 0.1;
    let vit = Vit::new(config).unwrap();
    let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
    initialize(&vit, &mut parameters, Initialization::Timm, 3);
    // A large epsilon, so that the smallest gradients do not show their rounding.
    let optimizer = Optimizer::Adamw { beta1: 0.9, beta2: 0.999, epsilon: 1e-4 };
    let groups = groups(&vit, &parameters, &GroupOptions::default(), &optimizer);
    let rules = Rules {
        optimizer,
        schedule: Schedule { learning_rate: 1e-3, ..Schedule::default() },
        total_steps: 3,
        clip: Some(Clip::Norm(1.0)),
        ema_decay: Some(0.9),
        loss: Loss::CrossEntropy,
        distillation: None,
        recompute: false,
        seed: 5,
        leaves: 2,
        share_moments: false,
    };
    Trainer::on_ranks(vit, parameters, groups, rules, ranks).unwrap()
}

/// Three steps of two batches. What they report, the parameters after them, and the downloads of each.
fn steps(device: &Device) -> (Vec<StepReport>, Vec<f32>, Vec<usize>) {
    let mut trainer = trainer(device, Ranks::alone());
    let batch = |first: usize| {
        let pixels: Vec<f32> = (0..3 * 3 * 16 * 16).map(|i| ((i + 31 * first) as f32 * 0.7).sin()).collect();
        let targets = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let (pixels, targets) = (device.upload([3, 3, 16, 16], &pixels), device.upload([3, 2], &targets));
        Batch::whole(pixels.unwrap(), targets.unwrap(), vec![0, 1, 0])
    };
    let batches = [batch(0), batch(1)];
    let (mut reports, mut downloads) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let before = device.downloads();
        reports.push(trainer.step(&batches, None).unwrap());
        downloads.push(device.downloads() - before);
    }
    (reports, trainer.parameters().flat().to_vec().unwrap(), downloads)
}

#[test]
fn a_step_downloads_once_and_is_the_same_on_every_device() {
    let (expected, parameters, downloads) = steps(&Device::reference());
    assert_eq!(downloads, [1; 3], "on the reference device");
    for threads in [1, 2, 3] {
        let (reports, found, downloads) = steps(&Device::cpu(threads));
        assert_eq!(downloads, [1; 3], "with {threads} threads");
        for (found, expected) in reports.iter().zip(&expected) {
            assert!((found.loss - expected.loss).abs() < 1e-5, "{found:?}, expected {expected:?}");
            assert_eq!((found.correct, found.seen), (expected.correct, expected.seen));
        }
        let worst = vitral::numbers::apart(&found, &parameters);
        assert!(worst < 1e-5, "parameters differ by {worst} with {threads} threads");
    }
}

/// Three steps on ranks whose devices are cards: the parameters of each, and what it says of the way between them.
fn on_cards(folder: &Path, size: usize, made: impl Fn(Ranks, &Device) -> Trainer + Sync) -> Vec<(Vec<f32>, String)> {
    let card = |ranks: Ranks| {
        let device = Device::cuda(0, Some(folder)).unwrap();
        let mut trainer = made(ranks.clone(), &device);
        let own = 2 / size;
        for step in 0..3 {
            let images = own * 3 * 16 * 16;
            let pixels: Vec<f32> = (0..images).map(|i| ((i + ranks.rank() * images + step) as f32).sin()).collect();
            let labels: Vec<usize> = (0..own).map(|image| (image + ranks.rank()) % 2).collect();
            let targets: Vec<f32> = labels.iter().flat_map(|&label| [1.0 - label as f32, label as f32]).collect();
            let pixels = device.upload([own, 3, 16, 16], &pixels).unwrap();
            let whole = Batch::whole(pixels, device.upload([own, 2], &targets).unwrap(), labels);
            let batch = Batch { place: Place { first: ranks.rank() * own, of: 2 }, ..whole };
            trainer.step(&[batch], None).unwrap();
        }
        (trainer.parameters().flat().to_vec().unwrap(), trainer.exchange().note().unwrap_or_default())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = Ranks::threads(size).into_iter().map(|ranks| scope.spawn(|| card(ranks))).collect();
        running.into_iter().map(|card| card.join().unwrap()).collect()
    })
}

#[test]
fn cards_that_exchange_by_themselves_give_the_bits_of_the_way_through_the_host() {
    let folder = match vitral_emulator::driver(false) {
        Ok(folder) => folder,
        Err(missing) if missing.skips() => return eprintln!("cards are not tested: {missing}"),
        Err(missing) => panic!("{missing}"),
    };
    let connected = |ranks: Ranks, device: &Device| {
        let mut trainer = trainer(device, ranks);
        trainer.connect().unwrap();
        trainer
    };
    let direct = on_cards(&folder, 2, connected);
    let through_host = on_cards(&folder, 2, |ranks, device| trainer(device, ranks));
    let by_library = on_cards(&folder, 2, |ranks, device| connected(ranks.with_reduction(Reduction::Library), device));
    let expected = &through_host[0].0;
    for (parameters, note) in direct.iter().chain(&by_library) {
        assert!(note.starts_with("gradients go from card to card by NCCL 2."), "{note}");
        assert!(parameters == expected, "parameters differ by {}", vitral::numbers::apart(parameters, expected));
    }
    assert_eq!(through_host[1], (expected.clone(), String::new()));
    let alone = on_cards(&folder, 1, connected);
    let worst = vitral::numbers::apart(&alone[0].0, expected);
    assert!(worst < 1e-5, "parameters of one card differ by {worst}");
}

/// A step of two images on two processors that add up as they go, on the second of which a teacher may fail, or there may be no
/// images at all.
fn on_processors(fails: bool, empty: bool) -> Vec<Result<(StepReport, Vec<f32>), String>> {
    let one = |ranks: Ranks| {
        let device = Device::cpu(1 + ranks.rank());
        let mut trainer = trainer(&device, ranks.clone());
        trainer.connect().unwrap();
        let (rank, of) = (ranks.rank(), if empty { 1 } else { 2 });
        let own = if empty { 1 - rank } else { 1 };
        let pixels: Vec<f32> = (0..own * 3 * 16 * 16).map(|i| ((i + rank * 768) as f32).sin()).collect();
        let (labels, targets) = (vec![rank; own], [[1.0, 0.0], [0.0, 1.0]][rank]);
        let (pixels, targets) =
            (device.upload([own, 3, 16, 16], &pixels), device.upload([own, 2], &targets[..2 * own]));
        let batch = Batch::whole(pixels.unwrap(), targets.unwrap(), labels);
        let batch = Batch { place: Place { first: rank.min(of), of }, ..batch };
        let teacher = |pixels: &Tensor| match rank {
            1 => Err(TrainError::Recipe { path: "teacher".into(), fault: "it has left".into() }),
            _ => Ok(device.zeros([pixels.extent(0), 2])),
        };
        let report = trainer.step(&[batch], fails.then_some(&teacher as &TeacherFn<'_>));
        report.map(|report| (report, trainer.parameters().flat().to_vec().unwrap())).map_err(|error| error.to_string())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = Ranks::threads(2).into_iter().map(|ranks| scope.spawn(move || one(ranks))).collect();
        running.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn a_rank_that_fails_or_has_no_images_takes_its_part_in_sums_on_the_way() {
    for empty in [false, true] {
        let all: Vec<_> = on_processors(false, empty).into_iter().map(Result::unwrap).collect();
        assert_eq!(all[0], all[1], "without images on the second: {empty}");
        assert_eq!(all[0].0.seen, if empty { 1 } else { 2 });
    }
    let errors: Vec<String> = on_processors(true, false).into_iter().map(Result::unwrap_err).collect();
    assert_eq!(errors[1], "`teacher`: it has left");
    assert!(errors[0].starts_with("rank 1: ") && errors[0].ends_with("it has left"), "{}", errors[0]);
}
