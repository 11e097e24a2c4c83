"""Expand phonemes to frames: the kernel behind `balacoon_tk.stages.upsampler`."""

from libc.math cimport exp, fabs
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from balacoon_tk.stages._random cimport draw_channels

# Phonemes lie row by row and frames column by column, so the expansion is also a transposition. A tile
# is filled along channels (vector code) and emptied along frames (whole cache lines); it stays in L1, and
# so does the noise, which is drawn where it is used: an array of it would have to be fetched from afar.
# Nothing here knows where a window begins but by the number of its first frame, and no value depends on the
# frame before it: so any window has the bits of the whole.
cdef enum:
    TILE_FRAMES = 16  # floats of a cache line
    TILE_CHANNELS = 64  # what `draw_channels` draws at once


def add_up(const int64_t[::1] durations, int64_t[::1] starts):
    """Fill `starts`, one longer than `durations`, with their sums up to each and with the sum of all."""
    cdef Py_ssize_t i
    starts[0] = 0
    for i in range(durations.shape[0]):
        starts[i + 1] = starts[i] + durations[i]


cdef inline void add_noise(
    const float* mean, const float* scale, float factor, const float* noise, float* row, Py_ssize_t n_channels
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(n_channels):
        row[c] = mean[c] + noise[c] * (scale[c] * factor)


cdef inline void add_weighted(
    const float* encoding, float weight, float* row, Py_ssize_t n_channels
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(n_channels):
        row[c] += weight * encoding[c]


cdef inline void transpose(
    const float* tile, float* out, Py_ssize_t out_pitch, Py_ssize_t n_channels, Py_ssize_t n_frames
) noexcept nogil:
    cdef Py_ssize_t c, f
    if n_frames == TILE_FRAMES:  # a constant, so that the compiler unrolls the inner loop
        for c in range(n_channels):
            for f in range(TILE_FRAMES):
                out[c * out_pitch + f] = tile[f * TILE_CHANNELS + c]
    else:
        for c in range(n_channels):
            for f in range(n_frames):
                out[c * out_pitch + f] = tile[f * TILE_CHANNELS + c]


cdef inline Py_ssize_t phoneme_at(const int64_t[::1] phoneme_starts, Py_ssize_t frame) noexcept nogil:
    """Return the last phoneme that starts at or before a frame: those of duration 0 are stepped over."""
    cdef Py_ssize_t middle, low = 0, high = phoneme_starts.shape[0]
    while high - low > 1:
        middle = (low + high) // 2
        if phoneme_starts[middle] <= frame:
            low = middle
        else:
            high = middle
    return low


def expand(
    const float[:, ::1] encodings,
    const float[:, ::1] scales,
    float factor,
    uint64_t seed,
    uint32_t stream,
    const int64_t[::1] phoneme_starts,
    Py_ssize_t start,
    float[:, ::1] out,
):
    """Fill `out`, frames from `start` on; not empty.

    To each is added noise of the seed's stream times `scales` times `factor`; with None for `scales` the
    encodings are copied.
    """
    # 4 kB of tile, 256 bytes of noise, and as much of the phoneme's two rows: the first cache holds all.
    cdef float tile[TILE_FRAMES * TILE_CHANNELS]
    cdef float noise[TILE_CHANNELS]
    cdef Py_ssize_t c, f, i, phoneme, channel_tile, frame_tile, n_channels, n_frames, first
    cdef bint noisy = scales is not None
    with nogil:
        # Channels outside, frames inside: the frames of a phoneme come one after the other, so its rows stay.
        first = phoneme_at(phoneme_starts, start)
        for channel_tile in range((out.shape[0] + TILE_CHANNELS - 1) // TILE_CHANNELS):
            c = channel_tile * TILE_CHANNELS
            n_channels = min(<Py_ssize_t>TILE_CHANNELS, out.shape[0] - c)
            phoneme = first
            for frame_tile in range((out.shape[1] + TILE_FRAMES - 1) // TILE_FRAMES):
                f = frame_tile * TILE_FRAMES
                n_frames = min(<Py_ssize_t>TILE_FRAMES, out.shape[1] - f)
                for i in range(n_frames):
                    # On from the last frame's phoneme: looking for each anew would cost more than copying.
                    while phoneme_starts[phoneme + 1] <= start + f + i:
                        phoneme += 1
                    if noisy:
                        draw_channels(start + f + i, c // 4, seed, stream, noise)
                        add_noise(&encodings[phoneme, c], &scales[phoneme, c], factor, noise,
                                  &tile[i * TILE_CHANNELS], n_channels)
                    else:
                        memcpy(&tile[i * TILE_CHANNELS], &encodings[phoneme, c], n_channels * sizeof(float))
                transpose(tile, &out[c, f], out.shape[1], n_channels, n_frames)


cdef inline double energy(double frame, double centre, double delta) noexcept nogil:
    return delta * (frame - centre) * (frame - centre)


def expand_gaussian(
    const float[:, ::1] encodings,
    const double[::1] centres,
    double delta,
    double cutoff,
    Py_ssize_t nearest,
    Py_ssize_t start,
    double[::1] weights,
    float[:, ::1] out,
):
    """Fill `out`, frames from `start` on, with mixtures of encodings; not empty.

    `centres` don't fall, `nearest` is a phoneme at or before the one whose centre is nearest to the first
    frame. A phoneme counts for a frame if its energy is at most `cutoff` above the least one, which depends
    on nothing but the frame, so that windows agree. `weights` has room for a number per phoneme.
    """
    cdef float tile[TILE_FRAMES * TILE_CHANNELS]
    cdef Py_ssize_t c, f, i, k, phoneme, first, last, channel_tile, frame_tile, n_channels, n_frames
    cdef Py_ssize_t n_phonemes = centres.shape[0]
    cdef double frame, least, total
    cdef float weight
    with nogil:
        for channel_tile in range((out.shape[0] + TILE_CHANNELS - 1) // TILE_CHANNELS):
            c = channel_tile * TILE_CHANNELS
            n_channels = min(<Py_ssize_t>TILE_CHANNELS, out.shape[0] - c)
            phoneme = nearest
            for frame_tile in range((out.shape[1] + TILE_FRAMES - 1) // TILE_FRAMES):
                f = frame_tile * TILE_FRAMES
                n_frames = min(<Py_ssize_t>TILE_FRAMES, out.shape[1] - f)
                for i in range(n_frames):
                    frame = start + f + i
                    while (phoneme + 1 < n_phonemes
                           and fabs(frame - centres[phoneme + 1]) <= fabs(frame - centres[phoneme])):
                        phoneme += 1
                    # Taken off before exp, which would else be 0 for all phonemes at the ends of a long one,
                    # where every centre is far away.
                    least = energy(frame, centres[phoneme], delta)
                    # Energies rise on both sides of the nearest centre, so the first that is too large ends.
                    first, last = phoneme, phoneme
                    while first > 0 and energy(frame, centres[first - 1], delta) - least <= cutoff:
                        first -= 1
                    while last + 1 < n_phonemes and energy(frame, centres[last + 1], delta) - least <= cutoff:
                        last += 1
                    total = 0.0
                    for k in range(first, last + 1):
                        weights[k] = exp(least - energy(frame, centres[k], delta))
                        total += weights[k]
                    for k in range(n_channels):
                        tile[i * TILE_CHANNELS + k] = 0.0
                    for k in range(first, last + 1):
                        weight = <float>(weights[k] / total)
                        add_weighted(&encodings[k, c], weight, &tile[i * TILE_CHANNELS], n_channels)
                transpose(tile, &out[c, f], out.shape[1], n_channels, n_frames)
