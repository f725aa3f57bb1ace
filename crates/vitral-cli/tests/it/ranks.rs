//! Processes that a launcher starts. `tools/mpi-check` tries those launchers that a machine has.

use super::*;

/// Runs the binary with a launcher's variables, and no others'.
fn launched(variables: &[(&str, &str)], args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitral"));
    for name in ["OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "PMI_RANK", "PMIX_RANK", "VITRAL_MPI"] {
        command.env_remove(name);
    }
    finished(command.args(args).envs(variables.iter().copied()), &[])
}

const ONE_OF_TWO: [(&str, &str); 2] = [("PMI_RANK", "0"), ("PMI_SIZE", "2")];

#[test]
fn a_process_may_be_alone() {
    assert!(launched(&[], &["ranks"]).ok().starts_with("one process, started by itself\nrank 0 "));
    let found: serde_json::Value = serde_json::from_str(&launched(&[], &["ranks", "--json"]).ok()).expect("JSON");
    assert_eq!((&found["rank"], &found["size"], &found["library"]), (&0.into(), &1.into(), &serde_json::Value::Null));
    // A job's script is one process, even if the job has several tasks.
    let job = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
    assert!(launched(&job, &["ranks"]).ok().starts_with("one process"));
}

#[test]
fn a_library_that_cannot_be_used_is_named() {
    let named = |library: &str, args: &[&str]| {
        launched(&[ONE_OF_TWO[0], ONE_OF_TWO[1], ("VITRAL_MPI", library)], args).fails(1)
    };
    let error = named("/nowhere/libmpi.so", &["ranks"]);
    assert!(error.starts_with("error: the MPI library `/nowhere/libmpi.so`: "), "{error}");
    assert!(error.contains("name another with `VITRAL_MPI`"), "{error}");
    // Not for commands that do not share work.
    let launched = launched(&[ONE_OF_TWO[0], ONE_OF_TWO[1], ("VITRAL_MPI", "/nowhere")], &["models"]);
    assert!(launched.ok().contains("B/16"));
    let empty = folder();
    let error = named(&empty.path().display().to_string(), &["train", "recipe.toml", "--out", "run"]);
    assert!(error.contains("MPICH's mpiexec started this process as one of several"), "{error}");
    assert!(error.contains("looked for `libmpi_abi.so.1`, `libmpi.so.12`, `libmpich.so.12` in `"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_that_is_not_mpi_is_named() {
    let library = ["/lib/x86_64-linux-gnu/libm.so.6", "/usr/lib/libm.so.6", "/lib64/libm.so.6"];
    let Some(library) = library.iter().find(|path| Path::new(path).exists()) else { return };
    let variables = [ONE_OF_TWO[0], ONE_OF_TWO[1], ("VITRAL_MPI", *library)];
    let error = launched(&variables, &["ranks"]).fails(1);
    assert!(error.contains(&format!("the MPI library `{library}`: it has no `MPI_Init_thread`")), "{error}");
}
