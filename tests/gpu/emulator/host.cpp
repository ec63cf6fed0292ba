// host.cpp: the kernels with their emulator as a shared object, called by name; also the "cubin" of the fake driver.
#include EMU_SOURCE

enum { COOPERATIVE = 1, OVERLAPS = 2 };

// 500: no such kernel; 719: it has a race.
extern "C" int emu_launch(const char *name, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, size_t shared, int flags, void **arguments) {
    for (auto *entry = emu::registry(); entry; entry = entry->next)
        if (!strcmp(entry->name, name)) {
            WITH_RACES(emu::begin_launch(entry->name, flags & OVERLAPS);)
            emu::launch({gx, gy, gz}, {bx, by, bz}, shared, flags & COOPERATIVE, [&] { entry->invoke(arguments); });
            WITH_RACES(if (!emu::end_launch()) return 719;)
            return 0;
        }
    return 500;
}
extern "C" void *emu_registry() { return emu::registry(); }
extern "C" void emu_use_schedule(int number) { emu::schedule() = number; }
extern "C" int emu_finds_races() { WITH_RACES(return 1;) return 0; }
// Memory of the device, from here on or no longer.
extern "C" void emu_watch(const void *memory, size_t size, int is_there) {
    WITH_RACES(emu::watch(memory, size, is_there);)
    (void)memory, (void)size, (void)is_there;
}
