// races.h: what a thread of the emulator knows of the others, and what it tells races.cpp.
#pragma once
#include <cstddef>
namespace emu {
// Where a thread stands. `phase` and `grid_phase` count the barriers of its block, and its barriers with other blocks, so far; `seen` says
// of each lane of its warp how many barriers of the warp that lane had passed at their last common barrier; its own count is one higher.
struct Place {
    unsigned block, thread, phase = 0, grid_phase = 0, seen[32] = {};
    bool has_awaited = false;  // the launch before this one has ended
};
void begin_launch(const char *kernel, bool overlaps);  // it may begin before the launch ahead of it has ended
bool end_launch();                                     // whether it was clean
void begin_block(const void *shared, size_t size);
void enter(Place *place);                                      // who runs from here on; null: the host
void leave();                                                  // it is at its end
void sync_lanes(Place *first, size_t stride, unsigned lanes);  // at a barrier of their warp
void join(unsigned block, const void *barrier);                // it waits for other blocks there
void note_copy(const void *to, const void *from, size_t size, size_t valid);
void watch(const void *memory, size_t size, bool is_there);  // the device's: whole pages that hold nothing else
}  // namespace emu
