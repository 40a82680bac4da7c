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
