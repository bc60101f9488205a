{{- define "gradsift.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- /* What tells the pods of a component apart. Takes (list $ COMPONENT). */ -}}
{{- define "gradsift.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ $.Chart.Name }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Takes (list $ COMPONENT). */ -}}
{{- define "gradsift.labels" -}}
{{- $ := index . 0 -}}
{{ include "gradsift.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Labels of a pod. An Istio sidecar would break Pod Security and never let a job end. Takes (list $ COMPONENT). */ -}}
{{- define "gradsift.podLabels" -}}
{{ include "gradsift.labels" . }}
sidecar.istio.io/inject: "false"
{{- end -}}

{{- /* Reference of one of our images. Takes (list $ "cpu" or "train"). */ -}}
{{- define "gradsift.image" -}}
{{- $ := index . 0 -}}
{{- $image := index $.Values.images (index . 1) -}}
{{- with $.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "gradsift.pullSecrets" -}}
{{- with .Values.images.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* Pod Security "restricted", of the pod. Takes (list USER GROUP), null where the platform gives one. */ -}}
{{- define "gradsift.podSecurity" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" (index . 0)) }}
runAsUser: {{ int64 (index . 0) }}
{{- end }}
{{- if not (kindIs "invalid" (index . 1)) }}
fsGroup: {{ int64 (index . 1) }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* Pod Security "restricted", of a container. */ -}}
{{- define "gradsift.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Name of the secret with the credentials of the pipeline's pods. */ -}}
{{- define "gradsift.credentials" -}}
{{ .Values.existingSecret | default (include "gradsift.fullname" .) }}
{{- end -}}

{{- /* Name of the secret with PostgreSQL's password. */ -}}
{{- define "gradsift.databaseSecret" -}}
{{ .Values.mlflow.postgresql.existingSecret | default (printf "%s-postgresql" (include "gradsift.fullname" .)) }}
{{- end -}}

{{- /* Bytes of a quantity such as 10Gi. */ -}}
{{- define "gradsift.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (regexFind "[A-Za-z]*$" . | get $units) -}}
{{- end -}}

{{- define "gradsift.trackingUri" -}}
{{- if .Values.mlflow.trackingUri -}}
{{ .Values.mlflow.trackingUri }}
{{- else if .Values.mlflow.server.enabled -}}
{{ printf "http://%s-mlflow.%s.svc:5000" (include "gradsift.fullname" .) .Release.Namespace }}
{{- end -}}
{{- end -}}

{{- define "gradsift.trainingRuntimeKind" -}}
{{ eq .Values.trainingRuntime.scope "cluster" | ternary "ClusterTrainingRuntime" "TrainingRuntime" }}
{{- end -}}

{{- define "gradsift.trainingRuntimeName" -}}
{{ include "gradsift.fullname" . }}-torch
{{- end -}}

{{- /* Settings and credentials of a gradsift process; a secret that is not there is left out. */ -}}
{{- define "gradsift.envFrom" -}}
- configMapRef:
    name: {{ include "gradsift.fullname" . }}-settings
- secretRef:
    name: {{ include "gradsift.credentials" . }}
    optional: true
{{- end -}}
