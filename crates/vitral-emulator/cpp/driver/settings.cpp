// What differs between the fast and the checked stand-in.
#include "../runtime/memory.hpp"

const bool emu::checked = VITRAL_EMULATOR_CHECKED;
