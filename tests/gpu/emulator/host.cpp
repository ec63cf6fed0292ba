// host.cpp: the kernels with their emulator as a shared object, called by name; also the "cubin" of the fake driver.
#include "kernels.cu"

extern "C" int emu_launch(const char *name, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          size_t shared, int cooperative, void **arguments) {
    for (auto *entry = emu::registry(); entry; entry = entry->next)
        if (!strcmp(entry->name, name)) {
            emu::launch({gx, gy, gz}, {bx, by, bz}, shared, cooperative, [&] { entry->invoke(arguments); });
            return 0;
        }
    return 500;
}
extern "C" void *emu_registry() { return emu::registry(); }
extern "C" void emu_use_schedule(int number) { emu::schedule() = number; }
