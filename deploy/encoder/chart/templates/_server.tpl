{{- /* The flags of `compsketch serve`. */ -}}
{{- define "encoder.args" -}}
- --host=0.0.0.0
- --port=50051
- --metrics-host=0.0.0.0
- --metrics-port={{ .Values.metrics.port }}
- --drain={{ .Values.drainSeconds }}
{{- range .Values.encoders }}
- --encoder={{ . }}
{{- end }}
{{- if .Values.tokens.existingSecret }}
- --token-file=/etc/compsketch/tokens/{{ .Values.tokens.key }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- --tls-cert=/etc/compsketch/tls/tls.crt
- --tls-key=/etc/compsketch/tls/tls.key
{{- if .Values.tls.clientCA }}
- --tls-client-ca=/etc/compsketch/tls/ca.crt
{{- end }}
{{- end }}
{{- if .Values.insecure }}
- --insecure
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
