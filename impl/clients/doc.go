// Package clients holds no code but the tests that run real clients against the
// real proxy, unattended: the programs that people publish and watch with.
//
// Publishers are curl with a file and with a pipe from ffmpeg and from
// gst-launch-1.0, and ffmpeg by itself. Viewers are curl, ffprobe, ffmpeg,
// gst-launch-1.0 and headless Chromium; curl and Chromium watch over TLS too,
// and ffmpeg and gst-launch-1.0 play RTP by its description.
// Publishers also break off and return: they are killed, or a relay on their
// way to the proxy, or a pulled cable, cuts or resets their connections.
//
// What has to be transcoded is published in every container and codec: the
// fixtures, and clips that ffmpeg makes on the spot. Of what a viewer gets,
// decoded, the numbers on the pictures are read, and the tones and beeps heard.
//
// The proxy is built once and runs as a process of its own on a free loopback
// port, with the race detector where the tests have it; at the end it must obey
// SIGTERM and have seen neither a race nor a panic.
//
// What viewers get is judged here by a reader that shares no code with the
// proxy and, in decoded pictures, by the number stamped on each. A program that
// is missing skips its tests, and fails them where the variable CI is set; the
// script ci/setup installs all of them.
//
// What the contract asks of any implementation is left to the conformance
// suite, latency and load to the load generator.
package clients
