{{- define "avatar.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}

{{- define "avatar.labels" -}}
app.kubernetes.io/name: live-avatar
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Of every container: no root, nothing to write to, no privileges. */ -}}
{{- define "avatar.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "avatar.pod" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}
