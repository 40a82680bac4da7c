{{- define "scoremux.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "scoremux.selector" -}}
app.kubernetes.io/name: scoremux
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "scoremux.labels" -}}
{{ include "scoremux.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "scoremux.claim" -}}
{{ .Values.repository.existingClaim | default (printf "%s-repository" (include "scoremux.name" .)) }}
{{- end }}

{{/* Where Triton listens: on loopback, unless something outside the pod must reach it. */}}
{{- define "scoremux.address" -}}
{{ if or .Values.metrics.enabled (not .Values.door.enabled) }}0.0.0.0{{ else }}127.0.0.1{{ end }}
{{- end }}

{{- define "scoremux.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Bytes of a quantity of memory, such as 512Mi. */}}
{{- define "scoremux.bytes" -}}
{{- $text := kindIs "string" . | ternary . (printf "%d" (int64 .)) }}
{{- $unit := regexReplaceAll "^[0-9]+([.][0-9]+)?" $text "" }}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- if or (eq $unit $text) (not (hasKey $units $unit)) }}
{{- fail (printf "%s is no quantity of memory such as 512Mi or 1Gi" $text) }}
{{- end }}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) | int64 }}
{{- end }}

{{/*
Fails where the door's memory cannot hold `streams` uploads of the largest request on each connection: 128 MiB, and for
each upload the buffer (request_bytes + 64 KiB) and 128 KiB of TLS and stream. Measured with HAProxy 3.0: 70 MiB, and 2.03
MiB for each of 100 uploads of 2 MB.
*/}}
{{- define "scoremux.doorFits" -}}
{{- $limit := dig "limits" "memory" "" .resources }}
{{- if $limit }}
{{- $rest := sub (include "scoremux.bytes" $limit | int64) 134217728 }}
{{- $fit := div (max $rest 0) (mul (int64 .streams) (add (int64 .requestBytes) 196608)) }}
{{- if gt (int64 .connections) (int64 $fit) }}
{{- fail (printf "door.connections is %d, but door.resources.limits.memory (%v) holds only %d with %d uploads (door.streams) of door.requestBytes (%d) each: raise the limit, or lower one of them" (int64 .connections) $limit $fit (int64 .streams) (int64 .requestBytes)) }}
{{- end }}
{{- end }}
{{- end }}
