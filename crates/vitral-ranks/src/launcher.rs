//! Who started the process: what launchers leave in the environment.

/// What a launcher says about the process that it started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launcher {
    /// Its name.
    pub name: &'static str,
    /// The number of the process, if it says so.
    pub rank: Option<usize>,
    /// How many processes it started, if it says so.
    pub size: Option<usize>,
    /// The number of the process among those of the same machine.
    pub local_rank: Option<usize>,
    /// How many of them are on the same machine.
    pub local_size: Option<usize>,
}

/// A launcher's variables: for the rank, which is how it is known, the size, and the same on one machine.
struct Variables {
    name: &'static str,
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
}

/// From the more special to the more general: `srun` sets the variables of the process managers that it stands in for, too.
const LAUNCHERS: [Variables; 4] = [
    Variables {
        name: "Open MPI's mpirun",
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    // Only `srun` says how many tasks the step has; the script of `sbatch` itself is one process.
    Variables {
        name: "Slurm's srun",
        rank: "SLURM_PROCID",
        size: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        local_size: "SLURM_NTASKS_PER_NODE",
    },
    Variables {
        name: "MPICH's mpiexec",
        rank: "PMI_RANK",
        size: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        local_size: "MPI_LOCALNRANKS",
    },
    Variables { name: "a PMIx launcher", rank: "PMIX_RANK", size: "", local_rank: "", local_size: "" },
];

impl Launcher {
    /// The launcher of this process; nothing for a process that was started by itself.
    pub fn of_environment() -> Option<Self> {
        Launcher::of(&|name| std::env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name).filter(|_| !name.is_empty())?.parse::<usize>().ok();
        LAUNCHERS.iter().find_map(|known| {
            let rank = Some(number(known.rank)?);
            let size = number(known.size);
            if size.is_none() && !known.size.is_empty() {
                return None;
            }
            let (local_rank, local_size) = (number(known.local_rank), number(known.local_size));
            Some(Launcher { name: known.name, rank, size, local_rank, local_size })
        })
    }

    /// Whether it is Open MPI's.
    #[cfg(unix)]
    pub(crate) fn is_open_mpi(&self) -> bool {
        self.name == LAUNCHERS[0].name
    }

    /// Whether it is MPICH's or of its kin (Intel MPI, MVAPICH).
    #[cfg(unix)]
    pub(crate) fn is_mpich(&self) -> bool {
        self.name == LAUNCHERS[2].name
    }

    /// Whether it is Slurm's.
    #[cfg(unix)]
    pub(crate) fn is_slurm(&self) -> bool {
        self.name == LAUNCHERS[1].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launcher(variables: &[(&str, &str)]) -> Option<Launcher> {
        Launcher::of(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn launchers_are_known_by_what_they_set() {
        assert_eq!(launcher(&[]), None);
        let open_mpi = launcher(&[
            ("OMPI_COMM_WORLD_RANK", "3"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("PMIX_RANK", "3"),
        ]);
        let open_mpi = open_mpi.expect("a launcher");
        assert_eq!((open_mpi.rank, open_mpi.size, open_mpi.local_rank), (Some(3), Some(4), Some(1)));
        let hydra = launcher(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]).expect("a launcher");
        assert_eq!((hydra.name, hydra.size), ("MPICH's mpiexec", Some(2)));
        // The script of a batch job is one process, even if the job has several tasks.
        assert_eq!(launcher(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), None);
        let slurm =
            launcher(&[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "4"), ("PMI_RANK", "1"), ("PMI_SIZE", "4")]);
        assert_eq!(slurm.expect("a launcher").name, "Slurm's srun");
        assert_eq!(launcher(&[("PMI_RANK", "no number"), ("PMI_SIZE", "2")]), None);
    }
}
