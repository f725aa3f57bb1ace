// Turns what the processor itself finds in a kernel into a fault of the device.
#pragma once

namespace emu {
// Once for the process. A signal that no kernel caused goes to whoever handled it before.
void catch_signals();
} // namespace emu
