# A small HTTP server for containers, in Perl because every Debian image has it and a process needs only a few MiB.
# GET /alloc?mb=N allocates N MiB. /orphans?n=N leaves N children behind that exit with code 0 or 3. /fill forks until the
# kernel refuses and answers with the number of children, and /clear kills them. Any other path answers "hello".
use strict;
use warnings;
use IO::Socket::INET;
use POSIX ();

my $server = IO::Socket::INET->new(
    LocalAddr => '127.0.0.1', LocalPort => $ENV{PORT} // 9090, Listen => 64, ReuseAddr => 1
) or die "cannot listen: $@";
my @kept;
my @children;

while (1) {
    my $client = $server->accept or next;
    my $request = <$client> // '';
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
    my $answer = $request =~ m{^GET (\S+)} ? act($1) : '';
    my $worker = $ENV{MULTIPROCESS_WORKER_ID} // '';
    print $client "HTTP/1.1 200 OK\r\nX-Worker-Id: $worker\r\nX-Worker-Pid: $$\r\nConnection: close\r\n"
        . 'Content-Length: ' . length($answer) . "\r\n\r\n$answer";
    close $client;
}

sub act {
    my ($path) = @_;
    if ($path =~ m{^/alloc\?mb=(\d+)}) {
        push @kept, 'x' x ($1 << 20);
        return "kept\n";
    }
    if ($path =~ m{^/orphans\?n=(\d+)}) {
        # The child exits before its children, so PID 1 adopts them.
        my $child = fork() // return "cannot fork: $!\n";
        if ($child == 0) {
            for my $n (1 .. $1) { POSIX::_exit($n % 2 ? 3 : 0) if (fork() // 1) == 0 }
            POSIX::_exit(0);
        }
        waitpid $child, 0;
        return "left\n";
    }
    if ($path eq '/fill') {
        while (1) {
            my $child = fork() // last;
            if ($child == 0) { sleep 1 while 1 }
            push @children, $child;
        }
        return scalar(@children) . "\n";
    }
    if ($path eq '/clear') {
        kill 'KILL', @children;
        waitpid $_, 0 for @children;
        @children = ();
        return "cleared\n";
    }
    return "hello\n";
}
