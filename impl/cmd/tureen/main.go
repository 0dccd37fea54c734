// Command tureen is a live transcoding proxy: publishers PUT media, any number
// of viewers GET it as WebM.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

const description = `A live proxy: publishers send media by HTTP PUT or POST, any number of viewers get it as WebM by GET.

  tureen --listen :8000
  ffmpeg -re -i clip.mkv -c:v libvpx -c:a libvorbis -f webm -cluster_time_limit 0 -method PUT http://localhost:8000/stream/demo
  ffplay http://localhost:8000/stream/demo

Who runs it sees what is on the air, and says who may publish and watch, by a REST API (described at /api/openapi.json) or by

  tureen stream list
  tureen token add demo --ttl 1h

Every flag can also be set in the environment, --listen as TUREEN_LISTEN, or as "listen: :8000" in a YAML file named by --config.`

// program is the command line.
type program struct {
	Config kong.ConfigFlag `help:"Read flags from a YAML file; the command line and the environment win." placeholder:"FILE"`

	Serve      serve `cmd:"" default:"withargs" help:"Run the proxy (the default command)."`
	Transcoder child `cmd:"" hidden:""`

	Token  tokenCommands  `cmd:"" help:"Say who may publish and watch, by the API of a running proxy."`
	Stream streamCommands `cmd:"" help:"See and end what is on the air, likewise."`
	Health health         `cmd:"" help:"Ask a running proxy whether it answers; exits 0 when it does. For container engines."`
}

func options() []kong.Option {
	return []kong.Option{
		kong.Name("tureen"),
		kong.Description(description),
		kong.ShortUsageOnError(),
		kong.DefaultEnvars("TUREEN"),
		kong.Configuration(loadSettings),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	}
}

func main() {
	var p program
	ctx := kong.Parse(&p, options()...)
	if err := ctx.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tureen: "+err.Error())
		os.Exit(1)
	}
}
