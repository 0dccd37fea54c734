// Package transcoder is the child's side of a transcoder process: it reads a
// publisher's body from a pipe and writes VP8 and Vorbis frames to another, with
// GStreamer in between. It is the only package that talks to GStreamer, which
// parses hostile bytes in C: whatever goes wrong here ends one stream and nothing
// more. Starting, watching and ending such processes is left to package
// transcode, containers for viewers to package webm.
package transcoder
