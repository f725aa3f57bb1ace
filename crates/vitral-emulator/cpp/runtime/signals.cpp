#include "signals.hpp"
#include "block.hpp"

#include <csignal>
#include <cstring>
#include <ucontext.h>

namespace emu {
static struct sigaction previous[64];

static const void *instruction_of(const void *context) {
    const auto *machine = &static_cast<const ucontext_t *>(context)->uc_mcontext;
#if defined(__x86_64__)
    return reinterpret_cast<const void *>(machine->gregs[REG_RIP] + 1); // behind it, as a return address would be
#else
    return reinterpret_cast<const void *>(machine->pc + 1);
#endif
}

// It leaves by switching to the launch's context, as any fault does: nothing of the kernel goes on.
static void on_signal(int signal, siginfo_t *info, void *context) {
    Multiprocessor *m = here;
    if (!m || !m->running) {
        // Comes again when this returns, and finds the handler that was there before.
        sigaction(signal, &previous[signal], nullptr);
        return;
    }
    m->instruction = instruction_of(context);
    if (signal == SIGFPE) fail(LaunchFailed, "division by zero");
    if (signal == SIGILL) fail(LaunchFailed, "code that can only be reached by undefined behavior");
    // The processor does not say which address, if it is one that none can have.
    if (info->si_code == SI_KERNEL) fail(IllegalAddress, "memory that does not exist, far outside every allocation");
    fail(IllegalAddress, "memory that does not exist: %s", describe_address(uintptr_t(info->si_addr)).c_str());
}

void catch_signals() {
    static const bool done = [] {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_sigaction = on_signal;
        // The handler is left without returning, so the signal must not stay blocked.
        action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
        for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, &previous[signal]);
        return true;
    }();
    (void)done;
}
} // namespace emu
