# Init of a virtual machine with control groups of version 2. Starts the controller as PID 1 of namespaces, in a control
# group with limits, and makes it reach them. Prints its observations to the second serial port, as lines "CASE KEY VALUE",
# which cgroup2.test.ts evaluates.
set -e
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev || true
busybox mount -t tmpfs tmp /tmp
busybox mount -t tmpfs run /run
chmod 1777 /tmp /run
busybox mount -t cgroup2 cgroup /sys/fs/cgroup
echo '+memory +cpu +pids' >/sys/fs/cgroup/cgroup.subtree_control
busybox ifconfig lo up
stty -F /dev/ttyS1 raw
exec >/dev/ttyS1
set +e

say() { echo "$case $*"; }

# start CASE MEMORY CPU PIDS OOM_GROUP: starts the controller with /test/CASE.yaml.
start() {
  case=$1
  group=/sys/fs/cgroup/$1
  mkdir "$group"
  echo "$2" >"$group/memory.max"
  echo "$3" >"$group/cpu.max"
  echo "$4" >"$group/pids.max"
  echo "$5" >"$group/memory.oom.group"
  (
    GROUP=$group CASE=$1 sh -c 'echo $$ >"$GROUP/cgroup.procs"
      exec unshare --mount --pid --cgroup --fork --kill-child sh -c "
        busybox mount -t proc proc /proc
        busybox umount /sys/fs/cgroup
        busybox mount -t cgroup2 cgroup /sys/fs/cgroup
        exec setpriv --reuid 10001 --regid 10001 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
          monoceros run -c /test/$CASE.yaml"'
    echo $? >"/tmp/$case.code"
  ) </dev/null >"/tmp/$case.log" 2>&1 &
  wait_for 900 ready_or_over
}

# wait_for TENTHS CONDITION: waits until the condition holds, for at most that many tenths of a second.
wait_for() {
  left=$1
  while ! $2 && [ "$left" -gt 0 ]; do
    sleep 0.1
    left=$((left - 1))
  done
}
is_over() { [ -s "/tmp/$case.code" ]; }
ready_or_over() { is_over || grep -qs 'controller is ready' "/tmp/$case.log"; }
killed_or_over() { is_over || ! grep -q '^oom_kill 0$' "$group/memory.events"; }
recovered_or_over() { is_over || grep -q '"pool_recovered"' "/tmp/$case.log"; }
exited_or_over() { is_over || grep -q '"event":"exited"' "/tmp/$case.log"; }
resized_or_over() { is_over || ask 9000 /v1/status | grep -q '"replicas":2'; }

ask() { perl /opt/ask.pl GET "$@" 2>/dev/null; }
post() { perl /opt/ask.pl POST 9000 "$1" >/dev/null 2>&1; }

# Reports the contents of files of the control group, one line each.
files() {
  for file in "$@"; do
    say "$file $(tr '\n' ' ' <"$group/$file")"
  done
}
status() { say "$1 $(ask 9000 /v1/status)"; }

# Ends the case and reports the exit code and the log.
finish() {
  is_over || post /v1/shutdown
  wait_for 300 is_over
  say "code $(cat "/tmp/$case.code" 2>/dev/null)"
  echo 1 >"$group/cgroup.kill"
  while read -r line; do say "log $line"; done <"/tmp/$case.log"
}

start large 256M 'max 100000' 128 0
for turn in 1 2 3; do ask 9300 '/alloc?mb=100' >/dev/null; done
wait_for 900 recovered_or_over
status status
files memory.events
finish

start small 256M 'max 100000' 128 0
turn=0
while [ $turn -lt 40 ] && ! killed_or_over; do
  ask "930$((turn % 10))" '/alloc?mb=10' >/dev/null
  turn=$((turn + 1))
done
wait_for 100 exited_or_over
is_over || status status
files memory.events
finish

start group 256M 'max 100000' 128 1
for turn in 1 2 3; do ask 9300 '/alloc?mb=100' >/dev/null; done
wait_for 100 is_over
files memory.events
finish

start pids 256M 'max 100000' 10 0
files pids.events
finish

# Read the file into the page cache, so that the controller does not wait for the disk.
envoy --version >/tmp/version 2>&1
start proxy 512M '100000 100000' 128 0
status status
say "answer $(ask 10000 /)"
files memory.current memory.peak memory.events pids.current cpu.max
# A platform changes the limit of a running container.
echo '200000 100000' >"$group/cpu.max"
post /v1/reload
wait_for 300 resized_or_over
status resized
finish

case=end
say "code 0"
sync
echo o >/proc/sysrq-trigger
sleep 60
