{{- define "scoremux.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "scoremux.selector" -}}
app.kubernetes.io/name: scoremux
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "scoremux.labels" -}}
{{ include "scoremux.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "scoremux.claim" -}}
{{ .Values.store.claim | default (printf "%s-repository" (include "scoremux.name" .)) }}
{{- end }}

{{/* Fails, with a sentence, where values fit the schema but would not work. */}}
{{- define "scoremux.check" -}}
{{- with .Values.autoscaling }}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas is %d, more than autoscaling.maxReplicas, which is %d" (int64 .minReplicas) (int64 .maxReplicas)) }}
{{- end }}
{{- end }}
{{- range .Values.set }}
{{- $key := first (splitList "=" .) }}
{{- if has $key (list "address" "metrics_address" "watch_address" "grpc_port" "http_port" "metrics_port" "watch_port" "drain_s" "triton" "grant_key_file") }}
{{- fail (printf "set has %s, but the chart sets %s itself: remove it" . $key) }}
{{- end }}
{{- if hasPrefix "audit_" $key }}
{{- fail (printf "set has %s, but the chart has no volume for an audit log, and the log would be lost with its pod: remove it" .) }}
{{- end }}
{{- end }}
{{- end }}
