/** Metrics of typical programs. */

/** Metrics of a Python program with prometheus_client. */
export const PYTHON = `# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 1234.0
python_gc_objects_collected_total{generation="1"} 56.0
# HELP process_resident_memory_bytes Resident memory size in bytes.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 2.3339008e+07
# HELP http_requests_total Requests by path
# TYPE http_requests_total counter
http_requests_total{method="GET",path="/a \\"b\\""} 7.0
# HELP http_requests_created Requests by path
# TYPE http_requests_created gauge
http_requests_created{method="GET",path="/a \\"b\\""} 1.7e+09
# HELP http_request_seconds How long requests take
# TYPE http_request_seconds histogram
http_request_seconds_bucket{le="0.005",path="/"} 1.0
http_request_seconds_bucket{le="0.1",path="/"} 3.0
http_request_seconds_bucket{le="+Inf",path="/"} 4.0
http_request_seconds_count{path="/"} 4.0
http_request_seconds_sum{path="/"} 1.75
# HELP http_request_seconds_created How long requests take
# TYPE http_request_seconds_created gauge
http_request_seconds_created{path="/"} 1.7e+09
# HELP job_seconds A summary
# TYPE job_seconds summary
job_seconds_count 3.0
job_seconds_sum 0.5
`;

/** What a Node.js program with prom-client shows. */
export const NODE = `# HELP process_cpu_user_seconds_total Total user CPU time spent in seconds.
# TYPE process_cpu_user_seconds_total counter
process_cpu_user_seconds_total 0.042353

# HELP nodejs_eventloop_lag_seconds Lag of event loop in seconds.
# TYPE nodejs_eventloop_lag_seconds gauge
nodejs_eventloop_lag_seconds 0.0021

# HELP nodejs_version_info Node.js version info.
# TYPE nodejs_version_info gauge
nodejs_version_info{version="v26.1.0",major="26",minor="1",patch="0"} 1

# HELP nodejs_gc_duration_seconds Garbage collection duration by kind.
# TYPE nodejs_gc_duration_seconds histogram
nodejs_gc_duration_seconds_bucket{le="0.001",kind="minor"} 10
nodejs_gc_duration_seconds_bucket{le="0.01",kind="minor"} 12
nodejs_gc_duration_seconds_bucket{le="+Inf",kind="minor"} 12
nodejs_gc_duration_seconds_sum{kind="minor"} 0.0077
nodejs_gc_duration_seconds_count{kind="minor"} 12
nodejs_gc_duration_seconds_bucket{le="0.001",kind="major"} 0
nodejs_gc_duration_seconds_bucket{le="0.01",kind="major"} 1
nodejs_gc_duration_seconds_bucket{le="+Inf",kind="major"} 2
nodejs_gc_duration_seconds_sum{kind="major"} 0.03
nodejs_gc_duration_seconds_count{kind="major"} 2

# HELP lat Latencies.
# TYPE lat summary
lat{quantile="0.5"} 0.1
lat{quantile="0.99"} NaN
lat_sum 12
lat_count 40
`;
