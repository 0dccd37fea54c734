# Sourced by ci/compare: what people would use instead of the proxy, started on loop-back ports of its own from Debian's
# packages. Icecast passes through; ffmpeg, listening for a POST, transcodes to it. Each function leaves what it started in
# the array `started`, for the caller to end.
# shellcheck shell=bash

started=()

# start_icecast starts Icecast on a port, with its files in a folder. Bursts are off: a viewer gets the newest, not the
# last 64 KB, which is what it can do for latency. The source's password is the one below.
source_password=tureen
start_icecast() {
	local port=$1 folder=$2 icecast owner=
	# Debian's init script isn't wanted, only the program; it lies where root's PATH may lack it.
	icecast=$(PATH=$PATH:/usr/sbin:/sbin command -v icecast2) || die "icecast2 is needed; run ci/setup --peers"
	mkdir -p "$folder"
	if [ "$(id -u)" = 0 ]; then
		# As root it only starts when it may become somebody else.
		owner='<changeowner><user>nobody</user><group>nogroup</group></changeowner>'
		chown nobody "$folder"
		chmod 755 "$folder" "$(dirname "$folder")"
	fi
	cat >"$folder/icecast.xml" <<-XML
		<icecast>
		  <limits>
		    <clients>2000</clients><sources>4</sources><queue-size>2097152</queue-size>
		    <source-timeout>10</source-timeout><burst-on-connect>0</burst-on-connect><burst-size>0</burst-size>
		  </limits>
		  <authentication>
		    <source-password>$source_password</source-password>
		    <admin-user>admin</admin-user><admin-password>$source_password</admin-password>
		  </authentication>
		  <hostname>127.0.0.1</hostname>
		  <listen-socket><port>$port</port><bind-address>127.0.0.1</bind-address></listen-socket>
		  <paths>
		    <logdir>$folder</logdir><webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot>
		  </paths>
		  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>2</loglevel></logging>
		  <security><chroot>0</chroot>$owner</security>
		</icecast>
	XML
	"$icecast" -c "$folder/icecast.xml" >"$folder/output" 2>&1 &
	started+=($!)
	await_port "$port" $! || {
		cat "$folder/output" "$folder/error.log" >&2 2>/dev/null || true
		die "Icecast doesn't listen on port $port"
	}
}

# The bit rate that the proxy gives 640×360 at 30 fps.
video_rate=1200k

# serve_ffmpeg has ffmpeg listen for a POST on a port, again after each, and transcode it with the proxy's own encoder
# settings to a mount of Icecast's. Clusters are as short as the muxer allows: it hands on whole ones.
serve_ffmpeg() {
	local port=$1 icecast=$2 mount=$3 log=$4
	(
		child=
		trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 0' TERM
		while :; do
			sleep 0.2 # so that one that fails at once doesn't spin
			ffmpeg -hide_banner -loglevel error -fflags nobuffer -listen 1 -i "http://127.0.0.1:$port/" \
				-c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -g 30 \
				-b:v "$video_rate" -minrate "$video_rate" -maxrate "$video_rate" -bufsize "$video_rate" \
				-qmin 4 -qmax 56 -undershoot-pct 95 -static-thresh 1 -c:a libvorbis -q:a 4 \
				-f webm -cluster_time_limit 1 -flush_packets 1 -content_type video/webm \
				"icecast://source:$source_password@127.0.0.1:$icecast$mount" >>"$log" 2>&1 &
			child=$!
			wait "$child" || true
		done
	) &
	started+=($!)
	await_port "$port" $! || {
		cat "$log" >&2
		die "ffmpeg doesn't listen on port $port"
	}
}

# listens tells whether something listens on a TCP port. It connects to nothing: ffmpeg takes the first connection for its
# publisher.
listens() { [ -n "$(ss -Hltn "sport = :$1")" ]; }

# await_port waits until something listens on a port, or the process that was to is gone.
await_port() {
	local port=$1 pid=$2 end=$((SECONDS + 20))
	until listens "$port"; do
		kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# free_port prints a port that nothing listens on.
free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		listens "$port" || break
	done
	echo "$port"
}

# end_started ends what was started here.
end_started() {
	local pid
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
	started=()
}
