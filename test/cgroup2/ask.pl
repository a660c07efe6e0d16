# An HTTP client, because BusyBox's does not work in all static builds. ask.pl METHOD PORT PATH prints the body on one line.
use strict;
use warnings;
use IO::Socket::INET;

my ($method, $port, $path) = @ARGV;
alarm 30;
my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or exit 1;
print $server "$method $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
local $/;
my ($head, $body) = split /\r\n\r\n/, <$server> // '', 2;
exit 1 if !defined $body;
if ($head =~ /^transfer-encoding: *chunked/im) {
    my $whole = '';
    while ($body =~ s/^([0-9a-f]+)\r\n//i && hex $1) { $whole .= substr $body, 0, hex $1, ''; $body =~ s/^\r\n// }
    $body = $whole;
}
$body =~ s/\n/ /g;
print $body;
